"""What a store promises about pauses: the wish that a run be held, apart from whether it is at rest yet.

A run that somebody drives is held by its driver, which hears of the wish by mail and gives the run up as paused
when its steps have ended. The wish is kept in the run's row, too: so a driver that gives a run up as paused after
it was resumed leaves it due, and no resumption is lost in between.
"""

from __future__ import annotations

from typing import Protocol

from perdure.codec.events import decode_event
from perdure.codec.sealing.envelope import head_of, is_sealed
from perdure.core.events import CancelRequested
from perdure.errors import UndecodableError
from perdure.storage.records import Delivery


class Pauses(Protocol):
    """Holding runs and letting them go on, as `store.pauses`. A cancellation lets a run go on, too."""

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        """Wish that a run be held, and put `event` into its inbox. One that nobody drives is paused at once.

        REPEATED, and nothing else: that was wished already.
        """
        ...

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        """Wish that a run go on, and put `event` into its inbox. A paused one is due at once, or after its delay.

        One that is blocked since its history was damaged is due at once, too, to be looked at again.

        REPEATED, and nothing else: it isn't to be held.
        """
        ...


def ends_pause(data: bytes) -> bool:
    """Whether this control mail lets a held run go on."""
    try:
        if is_sealed(data):
            return head_of(data).kind == "cancel_requested"
        return isinstance(decode_event(data), CancelRequested)
    except UndecodableError:
        return False
