"""Finding entities in a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.entities import EntityKey
from perdure.storage.sqlite.database import Database


class SqliteEntities:
    """See Entities.

    Args:
        read: hands a verb to the store's reader.
    """

    def __init__(self, read: Callable[..., Awaitable[Any]]) -> None:
        self._read = read

    async def kinds(self) -> Sequence[tuple[str, int]]:
        found: list[tuple[str, int]] = await self._read(_kinds)
        return found

    async def find(
        self, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        found: list[EntityKey] = await self._read(_find, workflow, text, before, limit)
        return found


def _kinds(db: Database) -> list[tuple[str, int]]:
    return [(workflow, count) for workflow, count in db.rows("kinds_of_entities", {})]


def _find(db: Database, workflow: str, text: str | None, before: int | None, limit: int) -> list[EntityKey]:
    rows = db.rows("find_entities", {"workflow": workflow, "text": text, "before": before, "limit": limit})
    return [EntityKey(*row) for row in rows]
