"""Pauses in PostgreSQL. See storage/pauses.py for what is promised."""

from __future__ import annotations

from typing import Any

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import deliver
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Delivery


class PostgresPauses:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        return await self._ways.write(_change, id, event, "pause", {"reason": reason, "now": now})

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self._ways.write(_change, id, event, "unpause", {"now": now})


async def _change(db: Database, id: str, event: bytes, query: str, values: dict[str, Any]) -> Delivery:
    run = await lock_newest(db, id)
    if run is None:
        return Delivery.UNKNOWN_RUN
    if not await db.run(query, run=run, **values):
        return Delivery.RUN_ENDED if await db.value("has_ended", run=run) else Delivery.REPEATED
    await deliver(db, run, event, values["now"], patient=True)
    return Delivery.DELIVERED
