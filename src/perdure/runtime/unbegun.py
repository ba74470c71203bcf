"""Ends runs that were asked to, and that nobody can begin.

A run whose queue or code no worker serves waits for one. If it is cancelled meanwhile, and none of its code has
ever run, there is nothing to clean up: it ends as cancelled without a driver, and a parent hears of it.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.codec.events import decode_event, encode_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import UndecodableError
from perdure.storage.protocol import Store

#: How many items are looked at in one go.
LIMIT = 256


async def end_unbegun(store: Store, clock: Callable[[], float]) -> int:
    """End those that are asked to. Returns how many."""
    asked: dict[int, ev.CancelRequested] = {}
    for item in await store.unbegun.mail(limit=LIMIT):
        try:
            event = decode_event(item.data)
        except UndecodableError:
            continue  # of a newer version, which will know
        if isinstance(event, ev.CancelRequested) and (event.terminate or item.run not in asked):
            asked[item.run] = event
    ended = 0
    for run, request in asked.items():
        now = clock()
        last: ev.Final
        if request.terminate:
            status, last = Status.TERMINATED, ev.RunTerminated(at=now, reason=request.reason)
        else:
            status, last = Status.CANCELLED, ev.RunCancelled(at=now, reason=request.reason)
        ended += await store.unbegun.end(
            run, encode_event(last), status=status.value, reason=request.reason, now=now
        )
    return ended
