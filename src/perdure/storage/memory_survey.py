"""Looking at very many runs in a memory store."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence

from perdure.storage.memory_attributes import holds
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.records import RunFilter, RunRow


class MemorySurvey:
    """See Survey.

    Args:
        database: the database, if the store is open.
        find: the store's own.
    """

    def __init__(
        self,
        database: Callable[[], MemoryDatabase],
        find: Callable[[RunFilter], Awaitable[list[RunRow]]],
    ) -> None:
        self._database = database
        self._find = find

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        older = (run for run in reversed(self._database().runs) if before is None or run < before)
        return next(itertools.islice(older, depth, None), None)

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        runs = self._database().runs.items()
        for condition in filter.attributes:
            found = [key for key, run in runs if holds(condition, run)]
            if condition.operator != "!=" and len(found) <= cap:
                return found
        return None

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        return [row.run for row in await self._find(filter)]

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        db = self._database()
        return [db.row(db.runs[key]) for key in keys if key in db.runs]

    async def workflows(self, *, depth: int) -> Sequence[str]:
        newest = itertools.islice(reversed(self._database().runs.values()), depth)
        return sorted({run.workflow for run in newest})
