"""Updates in a PostgreSQL database. See storage/updates.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.bounds import INBOX_MAX
from perdure.storage.effects import SetUpdate, UpdateState
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import deliver
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Append, Delivery
from perdure.storage.updates import UpdateRow, renewable


class PostgresUpdates:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        return await self._ways.write(_request, run_id, update, data, call, now)

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        return await self._ways.read(_look, keys) if keys else []


async def _request(db: Database, run_id: str, update: str, data: bytes, call: bytes, now: float) -> Delivery:
    run = await lock_newest(db, run_id)  # so of requests at the same time, the second sees the first
    if run is None:
        return Delivery.UNKNOWN_RUN
    answered = False
    for state, ended in await db.rows("update_row", run_id=run_id, id=update):
        if not renewable(UpdateState(state), ended):
            return Delivery.REPEATED
        answered = UpdateState(state).answered
    if not await deliver(db, run, data, now, patient=True, most=INBOX_MAX):
        if not await db.value("has_ended", run=run):
            return Delivery.INBOX_FULL
        return Delivery.REPEATED if answered else Delivery.RUN_ENDED
    await db.run("request_update", run_id=run_id, id=update, run=run, call=call)
    return Delivery.DELIVERED


async def _look(db: Database, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
    run_ids, ids = [run_id for run_id, _ in keys], [update for _, update in keys]
    found = {
        (run_id, update): UpdateRow(run_id, update, UpdateState(state), answer, ended, call)
        for run_id, update, state, answer, ended, call in await db.rows(
            "update_rows", run_ids=run_ids, ids=ids
        )
    }
    return [found.get((run_id, update)) for run_id, update in keys]


async def set_update(db: Database, append: Append, effect: SetUpdate) -> None:
    """Bring an update on, with an append of its run."""
    await db.run(
        "set_update", run=append.run, id=effect.update, state=effect.state.value, answer=effect.answer
    )
