"""Looking at very many runs in a memory store."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from perdure.core.errands import step_of
from perdure.storage.memory_attributes import holds
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.survey import Ended, Finished, Tally


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
        if filter.statuses:
            found = [key for key, run in runs if run.status in filter.statuses]
            return found if len(found) <= cap else None
        return None

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        return [row.run for row in await self._find(filter)]

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        db = self._database()
        return [db.row(db.runs[key]) for key in keys if key in db.runs]

    async def workflows(self, *, depth: int) -> Sequence[str]:
        newest = itertools.islice(reversed(self._database().runs.values()), depth)
        return sorted({run.workflow for run in newest})

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        runs = self._database().runs.values()
        counts = Counter((run.status, run.workflow) for run in runs if not statuses or run.status in statuses)
        return [Tally(*kind, count) for kind, count in sorted(counts.items())]

    async def blocked(self) -> Sequence[Tally]:
        runs = self._database().runs.values()
        counts = Counter((run.block_code or "", run.workflow) for run in runs if run.status == "blocked")
        return [Tally(*kind, count) for kind, count in sorted(counts.items())]

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        runs = reversed(self._database().runs.values())
        found = (run.run for run in runs if (run.status, run.workflow) == (status, workflow))
        return list(itertools.islice(found, skip, skip + limit))

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        parts: dict[tuple[int, str], list[float]] = {}
        for at, run in self._ended()[:limit]:
            if at >= since and step_of(run.workflow) is None:
                parts.setdefault((int((at - since) // width), run.status), []).append(at)
        return [
            Finished(part, status, len(ends), min(ends)) for (part, status), ends in sorted(parts.items())
        ]

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        kinds: dict[tuple[str, str, str], list[float]] = {}
        for at, run in self._ended()[:limit]:
            if at >= since:
                kinds.setdefault((run.workflow, run.queue, run.status), []).append(at)
        return [Ended(*kind, len(ends), min(ends)) for kind, ends in sorted(kinds.items())]

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        ended = (
            (run.workflow, at - run.started_at) for at, run in self._ended() if run.started_at is not None
        )
        return list(itertools.islice(ended, limit))

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        runs = [
            (run.started_at, run.run)
            for run in self._database().runs.values()
            if run.owner and run.started_at is not None and run.started_at < before
        ]
        return [key for _, key in sorted(runs)[:limit]]

    def _ended(self) -> list[tuple[float, Run]]:
        ended = [(run.ended_at, run) for run in self._database().runs.values() if run.ended_at is not None]
        return sorted(ended, key=lambda each: (each[0], each[1].run), reverse=True)
