"""What a replay needs to know of a history before it feeds it: read only if the code asks."""

from __future__ import annotations

from perdure.codec.events import decode_event
from perdure.core.events import Patched
from perdure.core.patches import Past
from perdure.storage.records import History

#: A part of the bytes of every Patched event.
_SIGN = b"patched"


def past_of(history: History) -> Past:
    """The history as a whole, for code that calls `patched`."""

    def patches() -> frozenset[str]:
        signed = [decode_event(data) for data in history.events if _SIGN in data]
        return frozenset(event.op for event in signed if isinstance(event, Patched))

    return Past(len(history.events), patches)
