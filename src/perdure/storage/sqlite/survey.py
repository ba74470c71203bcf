"""Looking at very many runs in a SQLite store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from perdure.core.attributes import Condition
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.sqlite.attributes import find_keys
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.reads import bindings_of
from perdure.storage.sqlite.rows import as_json, run_rows
from perdure.storage.survey import Ended, Finished, Tally


class SqliteSurvey:
    """See Survey.

    Args:
        read: hands a verb to the store's reader.
    """

    def __init__(self, read: Callable[..., Awaitable[Any]]) -> None:
        self._read = read

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        found: int | None = await self._read(_floor, before, depth)
        return found

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        found: list[int] | None = await self._read(_few, filter, cap)
        return found

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        found: list[int] = await self._read(_keys, filter)
        return found

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        found: list[RunRow] = await self._read(_rows, keys)
        return found

    async def workflows(self, *, depth: int) -> Sequence[str]:
        found: list[str] = await self._read(_workflows, depth)
        return found

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        found: list[Tally] = await self._read(_tallies, statuses)
        return found

    async def blocked(self) -> Sequence[Tally]:
        found: list[Tally] = await self._read(_blocked)
        return found

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        given = {"status": status, "workflow": workflow, "skip": skip, "limit": limit}
        found: list[int] = await self._read(_column, "of_kind", given)
        return found

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        found: list[Finished] = await self._read(_finished, since, width, limit)
        return found

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        found: list[Ended] = await self._read(_ends, since, limit)
        return found

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        found: list[tuple[str, float]] = await self._read(_took, limit)
        return found

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        found: list[int] = await self._read(_column, "driven_since", {"before": before, "limit": limit})
        return found


def _floor(db: Database, before: int | None, depth: int) -> int | None:
    """Keys are dense but for what was deleted, so they needn't be counted."""
    ((oldest, newest),) = db.rows("key_range", {"before": before})
    return None if newest is None or newest - depth < oldest else newest - depth


def _few(db: Database, filter: RunFilter, cap: int) -> list[int] | None:
    for condition in filter.attributes:
        found = _having(db, condition, cap + 1)
        if found is not None and len(found) <= cap:
            return found
    if filter.statuses:
        given: dict[str, Value] = {"statuses": as_json(filter.statuses), "limit": cap + 1}
        found = [run for (run,) in db.rows("of_statuses", given)]
        return found if len(found) <= cap else None
    return None


def _having(db: Database, condition: Condition, limit: int) -> list[int] | None:
    """Keys of runs for which a condition holds, or may."""
    given: dict[str, Value] = {"name": condition.name, "limit": limit}
    if condition.operator == "=":
        return [run for (run,) in db.rows("having", {**given, "choices": as_json(condition.choices)})]
    if condition.operator == "!=":
        return None
    ((family, value),) = condition.choices
    low, high = ("", b"") if family == "text" else (-math.inf, math.inf)  # bytes come after all texts
    ends: dict[str, Value] = (
        {"low": low, "high": value} if condition.operator[0] == "<" else {"low": value, "high": high}
    )
    return [run for (run,) in db.rows("having_between", {**given, "family": family, **ends})]


def _keys(db: Database, filter: RunFilter) -> list[int]:
    return find_keys(db, filter, bindings_of(filter))


def _rows(db: Database, keys: Sequence[int]) -> list[RunRow]:
    return run_rows(db.rows("rows_by_key", {"runs": as_json(keys)}))


def _workflows(db: Database, depth: int) -> list[str]:
    floor = _floor(db, None, depth)
    return [name for (name,) in db.rows("workflows_above", {"floor": -1 if floor is None else floor})]


def _column(db: Database, query: str, given: Mapping[str, Value]) -> list[int]:
    return [run for (run,) in db.rows(query, given)]


def _tallies(db: Database, statuses: Sequence[str]) -> list[Tally]:
    rows = db.rows("tallies_of", {"statuses": as_json(statuses)}) if statuses else db.rows("tallies")
    return [Tally(*row) for row in rows]


def _blocked(db: Database) -> list[Tally]:
    return [Tally(*row) for row in db.rows("blocked")]


def _finished(db: Database, since: float, width: float, limit: int) -> list[Finished]:
    given: dict[str, Value] = {"since": since, "width": width, "limit": limit}
    return [Finished(*row) for row in db.rows("finished", given)]


def _ends(db: Database, since: float, limit: int) -> list[Ended]:
    return [Ended(*row) for row in db.rows("ends", {"since": since, "limit": limit})]


def _took(db: Database, limit: int) -> list[tuple[str, float]]:
    return [(workflow, seconds) for workflow, seconds in db.rows("took", {"limit": limit})]
