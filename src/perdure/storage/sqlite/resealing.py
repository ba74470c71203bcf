"""Looking through what is sealed in a SQLite file, and replacing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.resealing import KINDS, Key, Piece
from perdure.storage.sqlite.database import Database, Value


class SqliteResealing:
    """See Resealing.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def pieces(self, kind: str, *, after: Key, limit: int) -> Sequence[Piece]:
        found: list[Piece] = await self._read(_pieces, kind, after, limit)
        return found

    async def replace(self, kind: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
        done: int = await self._write(_replace, kind, pieces)
        return done


def _bound(key: Key) -> dict[str, Value]:
    return {f"a{number}": part for number, part in enumerate(key)}


def _pieces(db: Database, table: str, after: Key, limit: int) -> list[Piece]:
    size = len(KINDS[table])
    rows = db.rows(f"kept_{table}", {**_bound(after), "limit": limit})
    return [Piece(tuple(row[:size]), tuple(row[size:-1]), row[-1]) for row in rows]


def _replace(db: Database, table: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
    return sum(db.run(f"reseal_{table}", {**_bound(key), "old": old, "new": new}) for key, old, new in pieces)
