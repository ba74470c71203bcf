"""The schedules of a memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.records import NewRun
from perdure.storage.schedules import Due, ScheduleRow


class MemorySchedules:
    """See ScheduleStore.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        schedules = self._database().schedules
        if row.name in schedules:
            return schedules[row.name]
        schedules[row.name] = row
        self._changed()
        return None

    async def get(self, name: str) -> ScheduleRow | None:
        return self._database().schedules.get(name)

    async def all(self) -> list[ScheduleRow]:
        schedules = self._database().schedules
        return [schedules[name] for name in sorted(schedules)]

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        db = self._database()
        current = db.schedules.get(row.name)
        if current is None or current.version != row.version:
            return False
        db.schedules[row.name] = msgspec.structs.replace(row, version=row.version + 1)
        for run in runs:
            db.create(run, run.parent)
        for id, data in mail:
            if (run_of_mail := db.find_id(id)) is not None:
                db.deliver(run_of_mail, data, now)
        self._changed()
        return True

    async def delete(self, name: str) -> bool:
        if self._database().schedules.pop(name, None) is None:
            return False
        self._changed()
        return True

    async def due(self, *, now: float, limit: int) -> Due:
        db = self._database()
        if db.move is not None:
            return Due([], None)
        timed = sorted((row.due_at, row.name) for row in db.schedules.values() if row.due_at is not None)
        names = [name for at, name in timed if at <= now]
        names += [
            row.name
            for row in db.schedules.values()
            if row.waiting and row.name not in names and not any(map(self._is_live, row.running))
        ]
        later = [at for at, _ in timed if at > now]
        return Due([db.schedules[name] for name in names[:limit]], later[0] if later else None)

    def _is_live(self, id: str) -> bool:
        run = self._database().find_id(id)
        return run is not None and not run.ended
