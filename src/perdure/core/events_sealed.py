"""What is left of an event for whoever has no key to it. It is never written, and no run is ever driven by it."""

from __future__ import annotations

from perdure.core.events_base import Fact


class Sealed(Fact, frozen=True, tag="sealed"):
    """An event of which only the head can be read.

    Attributes:
        what: which event it is, as histories call it: `step_completed`.
        op: the id of its step, timer, child or the like; "" if it has none.
        key: id of the key that it was sealed with.
        why: why it can't be opened.
    """

    what: str
    op: str
    key: str
    why: str
