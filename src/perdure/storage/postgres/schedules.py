"""The schedules of a PostgreSQL store. See storage/schedules.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import create_runs, deliver
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import NewRun
from perdure.storage.schedules import Due, ScheduleRow


class PostgresSchedules:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        return await self._ways.write(_create, row)

    async def get(self, name: str) -> ScheduleRow | None:
        return await self._ways.read(_get, name)

    async def all(self) -> list[ScheduleRow]:
        return await self._ways.read(_all)

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        return await self._ways.write(_change, row, runs, mail, now)

    async def delete(self, name: str) -> bool:
        return await self._ways.write(_delete, name)

    async def due(self, *, now: float, limit: int) -> Due:
        return await self._ways.read(_due, now, limit)


async def _create(db: Database, row: ScheduleRow) -> ScheduleRow | None:
    if await db.run("create_schedule", **_bindings(row)) == 1:
        return None
    return await _get(db, row.name)


async def _get(db: Database, name: str) -> ScheduleRow | None:
    for row in await db.rows("schedule", name=name):
        return ScheduleRow(*row)
    return None


async def _all(db: Database) -> list[ScheduleRow]:
    return [ScheduleRow(*row) for row in await db.rows("schedules")]


async def _change(
    db: Database, row: ScheduleRow, runs: Sequence[NewRun], mail: Sequence[tuple[str, bytes]], now: float
) -> bool:
    if await db.run("change_schedule", **_bindings(row)) == 0:
        return False
    if runs:
        await create_runs(db, runs, [run.parent for run in runs])
    for id, data in mail:
        key = await lock_newest(db, id)
        if key is not None:
            await deliver(db, key, data, now)
    return True


async def _delete(db: Database, name: str) -> bool:
    return await db.run("delete_schedule", name=name) == 1


async def _due(db: Database, now: float, limit: int) -> Due:
    ((worthwhile, next_at),) = await db.rows("schedules_idle_until", now=now)
    if not worthwhile:
        return Due([], next_at)
    found = {
        row.name: row
        for row in [ScheduleRow(*row) for row in await db.rows("schedules_due", now=now, limit=limit)]
    }
    for row in await db.rows("schedules_free", limit=limit):
        found.setdefault(row[0], ScheduleRow(*row))
    return Due(list(found.values())[:limit], next_at)


def _bindings(row: ScheduleRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "due_at": row.due_at,
        "waiting": row.waiting,
        "running": list(row.running),
        "data": row.data,
    }
