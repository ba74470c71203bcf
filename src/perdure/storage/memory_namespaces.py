"""Looking at one namespace of a memory store."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from perdure.core.errands import step_of
from perdure.core.namespaces import prefix_of
from perdure.storage.entities import EntityKey
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.survey import Ended, Finished, Tally


class MemoryNamespaces:
    """See Namespaces.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def all(self) -> Sequence[tuple[str, int]]:
        prefixes = Counter(prefix_of(run.id) for run in self._database().runs.values())
        return sorted((prefix, count) for prefix, count in prefixes.items() if prefix)

    async def floor(self, within: str, before: int | None, *, depth: int) -> int | None:
        older = (run.run for run in self._newest(within) if before is None or run.run < before)
        return next(itertools.islice(older, depth, None), None)

    async def workflows(self, within: str, *, depth: int) -> Sequence[str]:
        return sorted({run.workflow for run in itertools.islice(self._newest(within), depth)})

    async def tallies(self, within: str, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        counts = Counter(
            (run.status, run.workflow)
            for run in self._newest(within)
            if not statuses or run.status in statuses
        )
        return [Tally(*kind, count) for kind, count in sorted(counts.items())]

    async def of_kind(
        self, within: str, status: str, workflow: str, *, skip: int, limit: int
    ) -> Sequence[int]:
        found = (run.run for run in self._newest(within) if (run.status, run.workflow) == (status, workflow))
        return list(itertools.islice(found, skip, skip + limit))

    async def finished(self, within: str, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        parts: dict[tuple[int, str], list[float]] = {}
        for at, run in self._ended(within)[:limit]:
            if at >= since and step_of(run.workflow) is None:
                parts.setdefault((int((at - since) // width), run.status), []).append(at)
        return [
            Finished(part, status, len(ends), min(ends)) for (part, status), ends in sorted(parts.items())
        ]

    async def blocked(self, within: str) -> Sequence[Tally]:
        blocked = (run for run in self._newest(within) if run.status == "blocked")
        counts = Counter((run.block_code or "", run.workflow) for run in blocked)
        return [Tally(*kind, count) for kind, count in sorted(counts.items())]

    async def ends(self, within: str, since: float, *, limit: int) -> Sequence[Ended]:
        kinds: dict[tuple[str, str, str], list[float]] = {}
        for at, run in self._ended(within)[:limit]:
            if at >= since:
                kinds.setdefault((run.workflow, run.queue, run.status), []).append(at)
        return [Ended(*kind, len(ends), min(ends)) for kind, ends in sorted(kinds.items())]

    async def took(self, within: str, *, limit: int) -> Sequence[tuple[str, float]]:
        ended = (
            (run.workflow, at - run.started_at)
            for at, run in self._ended(within)
            if run.started_at is not None
        )
        return list(itertools.islice(ended, limit))

    async def driven_since(self, within: str, before: float, *, limit: int) -> Sequence[int]:
        runs = [
            (run.started_at, run.run)
            for run in self._newest(within)
            if run.owner and run.started_at is not None and run.started_at < before
        ]
        return [key for _, key in sorted(runs)[:limit]]

    async def kinds(self, within: str) -> Sequence[tuple[str, int]]:
        return sorted(Counter(run.workflow for run in self._entities(within)).items())

    async def entities(
        self, within: str, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        found = (
            EntityKey(run.run, run.id)
            for run in self._entities(within)
            if run.workflow == workflow
            and (text is None or text in run.id[len(within) :])
            and (before is None or run.run < before)
        )
        return list(itertools.islice(found, limit))

    async def waiting(self, within: str) -> Sequence[tuple[str, str, int]]:
        waits = self._database().publications.waits.values()
        counts = Counter((wait.waiting.name, wait.waiting.where) for wait in waits)
        return [(*place, count) for place, count in sorted(counts.items()) if place[0].startswith(within)][
            :1000
        ]

    def _newest(self, within: str) -> Iterator[Run]:
        return (run for run in reversed(self._database().runs.values()) if run.id.startswith(within))

    def _entities(self, within: str) -> Iterator[Run]:
        return (run for run in self._newest(within) if run.checkpoint is not None and run.next is None)

    def _ended(self, within: str) -> list[tuple[float, Run]]:
        ended = [(run.ended_at, run) for run in self._newest(within) if run.ended_at is not None]
        return sorted(ended, key=lambda each: (each[0], each[1].run), reverse=True)
