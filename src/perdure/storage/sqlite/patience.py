"""How long a connection waits for a lock that another one holds."""

from __future__ import annotations

import time

BUSY_STEP = 0.001  #: seconds between two looks
BUSY_LIMIT = 10.0  #: seconds after which a lock that doesn't come is an error


class Patience:
    """A busy handler of short even steps: SQLite's own backs off so far that a busy peer starves us.

    Attributes:
        limit: seconds it waits.
    """

    __slots__ = ("_deadline", "limit")

    def __init__(self) -> None:
        self.limit = BUSY_LIMIT
        self._deadline = 0.0

    def __call__(self, calls: int) -> bool:
        if not self.limit:
            return False
        now = time.monotonic()
        if calls == 0:
            self._deadline = now + self.limit
        if now >= self._deadline:
            return False
        time.sleep(BUSY_STEP)
        return True
