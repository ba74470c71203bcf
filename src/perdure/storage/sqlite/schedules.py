"""The schedules of a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from perdure.storage.records import NewRun
from perdure.storage.schedules import Due, ScheduleRow
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.lifecycle import create_runs, deliver
from perdure.storage.sqlite.rows import as_json

_ids = msgspec.json.Decoder(list[str])


class SqliteSchedules:
    """See ScheduleStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        found: ScheduleRow | None = await self._write(_create, row)
        return found

    async def get(self, name: str) -> ScheduleRow | None:
        found: ScheduleRow | None = await self._read(_get, name)
        return found

    async def all(self) -> list[ScheduleRow]:
        found: list[ScheduleRow] = await self._read(_all)
        return found

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        changed: bool = await self._write(_change, row, runs, mail, now)
        return changed

    async def delete(self, name: str) -> bool:
        deleted: bool = await self._write(_delete, name)
        return deleted

    async def due(self, *, now: float, limit: int) -> Due:
        found: Due = await self._read(_due, now, limit)
        return found


# -- on a thread's connection ---------------------------------------------------------------------------


def _create(db: Database, row: ScheduleRow) -> ScheduleRow | None:
    if db.run("create_schedule", _bindings(row)) == 1:
        return None
    return _get(db, row.name)


def _get(db: Database, name: str) -> ScheduleRow | None:
    for row in db.rows("schedule", {"name": name}):
        return _schedule_row(row)
    return None


def _all(db: Database) -> list[ScheduleRow]:
    return [_schedule_row(row) for row in db.rows("schedules")]


def _change(
    db: Database, row: ScheduleRow, runs: Sequence[NewRun], mail: Sequence[tuple[str, bytes]], now: float
) -> bool:
    if db.run("change_schedule", _bindings(row)) == 0:
        return False
    if runs:
        create_runs(db, runs)
    for id, data in mail:
        for key, *_ in db.rows("key_of", {"id": id}):
            deliver(db, key, data, now)
    return True


def _delete(db: Database, name: str) -> bool:
    return db.run("delete_schedule", {"name": name}) == 1


def _due(db: Database, now: float, limit: int) -> Due:
    bindings: dict[str, Value] = {"now": now, "limit": limit}
    found = {row.name: row for row in map(_schedule_row, db.rows("schedules_due", bindings))}
    for row in map(_schedule_row, db.rows("schedules_free", {"limit": limit})):
        found.setdefault(row.name, row)
    return Due(list(found.values())[:limit], db.value("next_schedule_at", {"now": now}))


def _schedule_row(row: Row) -> ScheduleRow:
    name, version, due_at, waiting, running, data = row
    return ScheduleRow(name, version, due_at, bool(waiting), _ids.decode(running), data)


def _bindings(row: ScheduleRow) -> dict[str, Value]:
    return {
        "name": row.name,
        "version": row.version,
        "due_at": row.due_at,
        "waiting": int(row.waiting),
        "running": as_json(row.running),
        "data": row.data,
    }
