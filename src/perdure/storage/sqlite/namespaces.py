"""Looking at one namespace of a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.entities import EntityKey
from perdure.storage.sqlite.attributes import HIGHEST
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.rows import as_json
from perdure.storage.survey import Ended, Finished, Tally


class SqliteNamespaces:
    """See Namespaces.

    Args:
        read: hands a verb to the store's reader.
    """

    def __init__(self, read: Callable[..., Awaitable[Any]]) -> None:
        self._read = read

    async def _rows(self, query: str, **given: Value) -> list[Row]:
        rows: list[Row] = await self._read(Database.rows, query, given)
        return rows

    async def all(self) -> Sequence[tuple[str, int]]:
        return [(prefix, count) for prefix, count in await self._rows("namespaces")]

    async def floor(self, within: str, before: int | None, *, depth: int) -> int | None:
        upto = HIGHEST if before is None else before
        found = await self._rows("floor_within", within=within, before=upto, depth=depth)
        return next((run for (run,) in found), None)

    async def workflows(self, within: str, *, depth: int) -> Sequence[str]:
        return [name for (name,) in await self._rows("workflows_within", within=within, depth=depth)]

    async def tallies(self, within: str, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        wanted = as_json(statuses) if statuses else None
        return [Tally(*row) for row in await self._rows("tallies_within", within=within, statuses=wanted)]

    async def of_kind(
        self, within: str, status: str, workflow: str, *, skip: int, limit: int
    ) -> Sequence[int]:
        kind: dict[str, Value] = {"status": status, "workflow": workflow}
        found = await self._rows("of_kind_within", within=within, **kind, skip=skip, limit=limit)
        return [run for (run,) in found]

    async def finished(self, within: str, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        found = await self._rows("finished_within", within=within, since=since, width=width, limit=limit)
        return [Finished(*row) for row in found]

    async def blocked(self, within: str) -> Sequence[Tally]:
        return [Tally(*row) for row in await self._rows("blocked_within", within=within)]

    async def ends(self, within: str, since: float, *, limit: int) -> Sequence[Ended]:
        found = await self._rows("ends_within", within=within, since=since, limit=limit)
        return [Ended(*row) for row in found]

    async def took(self, within: str, *, limit: int) -> Sequence[tuple[str, float]]:
        found = await self._rows("took_within", within=within, limit=limit)
        return [(workflow, seconds) for workflow, seconds in found]

    async def driven_since(self, within: str, before: float, *, limit: int) -> Sequence[int]:
        found = await self._rows("driven_within", within=within, before=before, limit=limit)
        return [run for (run,) in found]

    async def kinds(self, within: str) -> Sequence[tuple[str, int]]:
        return [(workflow, count) for workflow, count in await self._rows("kinds_within", within=within)]

    async def entities(
        self, within: str, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        upto = HIGHEST if before is None else before
        found = await self._rows(
            "entities_within", within=within, workflow=workflow, text=text, before=upto, limit=limit
        )
        return [EntityKey(*row) for row in found]

    async def waiting(self, within: str) -> Sequence[tuple[str, str, int]]:
        found = await self._rows("waiting_within", within=within)
        return [(name, condition, count) for name, condition, count in found]
