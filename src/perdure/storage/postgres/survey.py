"""Looking at very many runs in a PostgreSQL store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perdure.core.attributes import Condition
from perdure.storage.postgres.attributes import HIGHEST, find_keys, split
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.reads import bindings_of
from perdure.storage.postgres.rows import rows_by_key
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.survey import Ended, Finished, Tally

#: Statuses that the index of kinds doesn't know.
_USUAL = frozenset(("queued", "running", "waiting", "completed", "continued"))


class PostgresSurvey:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        return await self._ways.read(_floor, before, depth)

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        return await self._ways.read(_few, filter, cap)

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        return await self._ways.read(_keys, filter)

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        return await self._ways.read(_rows, keys) if keys else []

    async def workflows(self, *, depth: int) -> Sequence[str]:
        return await self._ways.read(_workflows, depth)

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        return await self._ways.read(_tallies, statuses)

    async def blocked(self) -> Sequence[Tally]:
        return await self._ways.read(_blocked)

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        given = {"status": status, "workflow": workflow, "skip": skip, "limit": limit}
        query = "of_usual_kind" if status in _USUAL else "of_kind"
        return await self._ways.read(_column, query, given)

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        return await self._ways.read(_finished, float(since), float(width), limit)

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        return await self._ways.read(_ends, float(since), limit)

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        return await self._ways.read(_took, limit)

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        return await self._ways.read(_column, "driven_since", {"before": float(before), "limit": limit})


async def _floor(db: Database, before: int | None, depth: int) -> int | None:
    found: int | None = await db.value(
        "floor_below", before=HIGHEST if before is None else before, depth=depth
    )
    return found


async def _few(db: Database, filter: RunFilter, cap: int) -> list[int] | None:
    for condition in filter.attributes:
        found = await _having(db, condition, cap + 1)
        if found is not None and len(found) <= cap:
            return found
    if filter.statuses and not _USUAL.intersection(filter.statuses):
        rows = await db.rows("of_statuses", statuses=list(filter.statuses), limit=cap + 1)
        return [run for (run,) in rows] if len(rows) <= cap else None
    return None


async def _having(db: Database, condition: Condition, limit: int) -> list[int] | None:
    """Keys of runs for which a condition holds, or may."""
    texts, numbers = split(condition)
    given: dict[str, Any] = {"name": condition.name, "limit": limit}
    found: list[int] = []
    if condition.operator == "=":
        if texts:
            found += [run for (run,) in await db.rows("having_text", **given, texts=texts)]
        if numbers:
            found += [run for (run,) in await db.rows("having_number", **given, numbers=numbers)]
        return found
    if condition.operator == "!=" or texts:  # the index of texts has the order of a language
        return None
    query = "having_upto" if condition.operator[0] == "<" else "having_from"
    return [run for (run,) in await db.rows(query, **given, number=numbers[0])]


async def _keys(db: Database, filter: RunFilter) -> list[int]:
    return await find_keys(db, filter, bindings_of(filter))


async def _rows(db: Database, keys: Sequence[int]) -> list[RunRow]:
    return await rows_by_key(db, list(keys))


async def _workflows(db: Database, depth: int) -> list[str]:
    floor = await _floor(db, None, depth)
    rows = await db.rows("workflows_above", floor=-1 if floor is None else floor)
    return sorted(name for (name,) in rows)


async def _column(db: Database, query: str, given: Mapping[str, Any]) -> list[int]:
    return [run for (run,) in await db.rows(query, **given)]


async def _tallies(db: Database, statuses: Sequence[str]) -> list[Tally]:
    if statuses and not _USUAL.intersection(statuses):
        rows = await db.rows("tallies_of", statuses=list(statuses))
    else:
        rows = [row for row in await db.rows("tallies") if not statuses or row[0] in statuses]
    return [Tally(*row) for row in rows]


async def _blocked(db: Database) -> list[Tally]:
    return [Tally(*row) for row in await db.rows("blocked")]


async def _finished(db: Database, since: float, width: float, limit: int) -> list[Finished]:
    return [Finished(*row) for row in await db.rows("finished", since=since, width=width, limit=limit)]


async def _ends(db: Database, since: float, limit: int) -> list[Ended]:
    return [Ended(*row) for row in await db.rows("ends", since=since, limit=limit)]


async def _took(db: Database, limit: int) -> list[tuple[str, float]]:
    return [(workflow, seconds) for workflow, seconds in await db.rows("took", limit=limit)]
