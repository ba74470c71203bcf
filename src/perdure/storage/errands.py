"""What a store does for steps that are executed elsewhere: it stops their errands."""

from __future__ import annotations

from perdure.storage.effects import Effect


class StopErrand(Effect, frozen=True, gc=False):
    """With an append: the run doesn't need an errand any more that it has sent.

    One that no worker has begun ends here and now, as cancelled. One that has begun is asked to, or left alone.
    Nothing happens if it has ended.

    Attributes:
        errand: its public id.
        event: its last event, encoded, if it hasn't begun.
        tell: its parent is told then, as of any run that ends.
        request: mail for one that has begun, None to leave it alone. Its parent isn't told of its end any more.
    """

    errand: str
    event: bytes
    tell: bool = False
    request: bytes | None = None
