"""Looking at very many runs: all of it is in the clear, but for their reasons."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.records import RunFilter, RunRow
from perdure.storage.sealing.around import Part
from perdure.storage.survey import Ended, Finished, Tally


class SealedSurvey(Part):
    """See Survey."""

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        return await self._store.below.survey.floor(before, depth=depth)

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        return await self._store.below.survey.few(filter, cap=cap)

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        return await self._store.below.survey.keys(filter)

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        return [self._store.shown(row) for row in await self._store.below.survey.rows(keys)]

    async def workflows(self, *, depth: int) -> Sequence[str]:
        return await self._store.below.survey.workflows(depth=depth)

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        return await self._store.below.survey.tallies(statuses)

    async def blocked(self) -> Sequence[Tally]:
        return await self._store.below.survey.blocked()

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        return await self._store.below.survey.of_kind(status, workflow, skip=skip, limit=limit)

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        return await self._store.below.survey.finished(since, width=width, limit=limit)

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        return await self._store.below.survey.ends(since, limit=limit)

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        return await self._store.below.survey.took(limit=limit)

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        return await self._store.below.survey.driven_since(before, limit=limit)
