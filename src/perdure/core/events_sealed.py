"""What is left of an event for whoever has no key to it. It is never written, and no run is ever driven by it."""

from __future__ import annotations

import msgspec


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An event of which only the head can be read.

    Attributes:
        at: as of the event, wall-clock seconds.
        kind: which event it is, as histories call it: `step_completed`.
        op: the id of its step, timer, child or the like; "" if it has none.
        key: id of the key that it was sealed with.
        why: why it can't be opened.
    """

    at: float
    kind: str
    op: str
    key: str
    why: str
