"""Pauses in a memory store."""

from __future__ import annotations

from collections.abc import Callable

from perdure.core.status import Status
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.records import Delivery


class MemoryPauses:
    """See Pauses.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        db = self._database()
        run = db.find_id(id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        if run.ended:
            return Delivery.RUN_ENDED
        if run.paused is not None:
            return Delivery.REPEATED
        run.paused, run.wake_at = run.wake_at or 0.0, None
        run.updated_at = now
        if run.owner is None:
            run.status, run.reason, run.block_code = Status.PAUSED.value, reason, None
        db.deliver(run, event, now, patient=True)
        self._changed()
        return Delivery.DELIVERED

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        db = self._database()
        run = db.find_id(id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        if run.ended:
            return Delivery.RUN_ENDED
        if not run.unpause(now):
            return Delivery.REPEATED
        db.deliver(run, event, now, patient=True)
        self._changed()
        return Delivery.DELIVERED
