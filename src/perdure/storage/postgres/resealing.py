"""Looking through what is sealed in a PostgreSQL database, and replacing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways
from perdure.storage.resealing import KINDS, Key, Piece

#: Keys that have more parts here than elsewhere.
_WIDER = {"mail": 2}


class PostgresResealing:
    """See Resealing."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def pieces(self, kind: str, *, after: Key, limit: int) -> Sequence[Piece]:
        return await self._ways.read(_pieces, kind, after, limit)

    async def replace(self, kind: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
        return await self._ways.apart(_replace, kind, pieces)


def _bound(kind: str, key: Key) -> dict[str, Any]:
    missing = _WIDER.get(kind, len(key)) - len(key)
    return {f"a{number}": part for number, part in enumerate([*key, *([-1] * missing)])}


async def _pieces(db: Database, table: str, after: Key, limit: int) -> list[Piece]:
    size = _WIDER.get(table, len(KINDS[table]))
    rows = await db.rows(f"kept_{table}", limit=limit, **_bound(table, after))
    return [Piece(tuple(row[:size]), tuple(row[size:-1]), row[-1]) for row in rows]


async def _replace(db: Database, table: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
    done = 0
    for key, old, new in pieces:
        done += await db.run(f"reseal_{table}", old=old, new=new, **_bound(table, key))
    return done
