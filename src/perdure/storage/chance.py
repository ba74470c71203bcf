"""Where random numbers come from.

One place for the whole package, so that a simulation can get the same numbers again. Nothing else here asks Python or
the operating system for them; core is given those that it needs.
"""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Generator


class Chance:
    """The process's source of random numbers.

    Attributes:
        random: a number in [0, 1).
        getrandbits: a number of so many bits.
        secret: so many bytes that nobody can guess.
    """

    __slots__ = ("getrandbits", "random", "secret")

    def __init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        """From Python and the operating system."""
        self.random = random.random
        self.getrandbits = random.getrandbits
        self.secret = os.urandom

    @contextlib.contextmanager
    def seeded(self, source: random.Random) -> Generator[None, None, None]:
        """From this source for a while. Only for simulations: nothing is secret then."""
        self.random, self.getrandbits, self.secret = source.random, source.getrandbits, source.randbytes
        try:
            yield
        finally:
            self.restore()

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.secret(16), version=4)

    def token_hex(self, length: int) -> str:
        """A secret text of so many bytes."""
        return self.secret(length).hex()


chance = Chance()
