"""Lists and counts of one namespace."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.core.namespaces import short
from perdure.storage.entities import EntityKey
from perdure.storage.namespaces import Namespaces
from perdure.storage.protocol import Store
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.scoping.mine import Mine, of_operators
from perdure.storage.scoping.records import row_outside
from perdure.storage.survey import Ended, Finished, Tally


class ScopedSurvey:
    """See Survey."""

    def __init__(self, inner: Store, prefix: str, mine: Mine) -> None:
        self._inner = inner
        self._namespaces = inner.namespaces
        self._prefix = prefix
        self._mine = mine

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        return await self._namespaces.floor(self._prefix, before, depth=depth)

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        found = await self._inner.survey.few(filter, cap=cap)
        return None if found is None else await self._mine.only(found)

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        return await self._inner.survey.keys(msgspec.structs.replace(filter, within=self._prefix))

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        rows = await self._inner.survey.rows(keys)
        self._mine.know(rows)
        return [row_outside(row) for row in rows if row.id.startswith(self._prefix)]

    async def workflows(self, *, depth: int) -> Sequence[str]:
        return await self._namespaces.workflows(self._prefix, depth=depth)

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        return await self._namespaces.tallies(self._prefix, statuses)

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        return await self._namespaces.of_kind(self._prefix, status, workflow, skip=skip, limit=limit)

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        return await self._namespaces.finished(self._prefix, since, width=width, limit=limit)

    async def blocked(self) -> Sequence[Tally]:
        return await self._namespaces.blocked(self._prefix)

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        return await self._namespaces.ends(self._prefix, since, limit=limit)

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        return await self._namespaces.took(self._prefix, limit=limit)

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        return await self._namespaces.driven_since(self._prefix, before, limit=limit)


class ScopedEntities:
    """See Entities."""

    def __init__(self, inner: Namespaces, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def kinds(self) -> Sequence[tuple[str, int]]:
        return await self._inner.kinds(self._prefix)

    async def find(
        self, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        found = await self._inner.entities(self._prefix, workflow, text=text, before=before, limit=limit)
        return [EntityKey(run, short(id)) for run, id in found]


class ScopedNamespaces:
    """See Namespaces: which others there are is told to none."""

    async def all(self) -> Sequence[tuple[str, int]]:
        of_operators("Which namespaces there are")

    async def floor(self, within: str, before: int | None, *, depth: int) -> int | None:
        of_operators("Looking at another namespace")

    async def workflows(self, within: str, *, depth: int) -> Sequence[str]:
        of_operators("Looking at another namespace")

    async def tallies(self, within: str, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        of_operators("Looking at another namespace")

    async def of_kind(
        self, within: str, status: str, workflow: str, *, skip: int, limit: int
    ) -> Sequence[int]:
        of_operators("Looking at another namespace")

    async def finished(self, within: str, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        of_operators("Looking at another namespace")

    async def blocked(self, within: str) -> Sequence[Tally]:
        of_operators("Looking at another namespace")

    async def ends(self, within: str, since: float, *, limit: int) -> Sequence[Ended]:
        of_operators("Looking at another namespace")

    async def took(self, within: str, *, limit: int) -> Sequence[tuple[str, float]]:
        of_operators("Looking at another namespace")

    async def driven_since(self, within: str, before: float, *, limit: int) -> Sequence[int]:
        of_operators("Looking at another namespace")

    async def kinds(self, within: str) -> Sequence[tuple[str, int]]:
        of_operators("Looking at another namespace")

    async def entities(
        self, within: str, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        of_operators("Looking at another namespace")

    async def waiting(self, within: str) -> Sequence[tuple[str, str, int]]:
        of_operators("Looking at another namespace")
