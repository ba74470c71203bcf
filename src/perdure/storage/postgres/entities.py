"""Finding entities in PostgreSQL. See storage/entities.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.entities import EntityKey
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways


class PostgresEntities:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def kinds(self) -> Sequence[tuple[str, int]]:
        return await self._ways.read(_kinds)

    async def find(
        self, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        return await self._ways.read(_find, workflow, text, before, limit)


async def _kinds(db: Database) -> list[tuple[str, int]]:
    return [(workflow, count) for workflow, count in await db.rows("kinds_of_entities")]


async def _find(
    db: Database, workflow: str, text: str | None, before: int | None, limit: int
) -> list[EntityKey]:
    rows = await db.rows("find_entities", workflow=workflow, text=text, before=before, limit=limit)
    return [EntityKey(*row) for row in rows]
