"""Where a retry or a fork takes over from, as its first event tells."""

from __future__ import annotations

import msgspec


class Donor(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The run from whose history another one takes over what succeeded (see core/reuse.py).

    Attributes:
        run: its id.
        generation: which run of that id it is.
        began: the code's first idea of now there.
        upto: number of the first event that isn't taken over, None = all are.
        results: encoded results by step id, which count instead of its own.
        inputs: encoded arguments by step id, with which steps are called instead of what the code says.
    """

    run: str
    generation: int
    began: float
    upto: int | None = None
    results: dict[str, bytes] = {}
    inputs: dict[str, bytes] = {}
