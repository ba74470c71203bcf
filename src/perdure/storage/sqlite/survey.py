"""Looking at very many runs in a SQLite store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.core.attributes import Condition
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.sqlite.attributes import find_keys
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.reads import bindings_of
from perdure.storage.sqlite.rows import as_json, run_rows


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


def _floor(db: Database, before: int | None, depth: int) -> int | None:
    """Keys are dense but for what was deleted, so they needn't be counted."""
    ((oldest, newest),) = db.rows("key_range", {"before": before})
    return None if newest is None or newest - depth < oldest else newest - depth


def _few(db: Database, filter: RunFilter, cap: int) -> list[int] | None:
    for condition in filter.attributes:
        found = _having(db, condition, cap + 1)
        if found is not None and len(found) <= cap:
            return found
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
