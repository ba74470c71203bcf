"""Pauses in a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from perdure.storage.records import Delivery
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.lifecycle import deliver


class SqlitePauses:
    """See Pauses.

    Args:
        write: hands a verb to the store's writer.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        answer: Delivery = await self._write(_change, id, event, "pause", {"reason": reason, "now": now})
        return answer

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        answer: Delivery = await self._write(_change, id, event, "unpause", {"now": now})
        return answer


def _change(db: Database, id: str, event: bytes, query: str, values: dict[str, Any]) -> Delivery:
    for run, *_ in db.rows("key_of", {"id": id}):
        if db.value("has_ended", {"run": run}):
            return Delivery.RUN_ENDED
        if not db.run(query, {"run": run, **values}):
            return Delivery.REPEATED
        deliver(db, run, event, values["now"], patient=True)
        return Delivery.DELIVERED
    return Delivery.UNKNOWN_RUN
