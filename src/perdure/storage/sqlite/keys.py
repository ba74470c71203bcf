"""The keys of subjects in a SQLite store.

What is destroyed is overwritten in the file (secure_delete), and the log, which has the pages as they were, is emptied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.keys import KeyRow
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json


class SqliteKeys:
    """See KeyStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def obtain(self, row: KeyRow) -> KeyRow:
        found: KeyRow = await self._write(_obtain, row)
        return found

    async def get(self, ids: Sequence[str]) -> list[KeyRow | None]:
        found: list[KeyRow | None] = await self._read(_get, ids)
        return found

    async def of(self, subject: str) -> list[KeyRow]:
        found: list[KeyRow] = await self._read(_rows, "data_keys_of", {"subject": subject})
        return found

    async def page(self, *, after: str, limit: int) -> list[KeyRow]:
        found: list[KeyRow] = await self._read(_rows, "data_keys_page", {"after": after, "limit": limit})
        return found

    async def rewrap(self, id: str, ring: str, *, to: str, wrapped: bytes) -> bool:
        done: bool = await self._write(_rewrap, id, ring, to, wrapped)
        return done

    async def erase(self, id: str, *, now: float) -> bool:
        done: bool = await self._write(_erase, id, now)
        return done


def _obtain(db: Database, row: KeyRow) -> KeyRow:
    for found in db.rows("data_key_of", {"subject": row.subject}):
        return KeyRow(*found)
    given: dict[str, Value] = {
        "id": row.id,
        "subject": row.subject,
        "ring": row.ring,
        "wrapped": row.wrapped,
        "created_at": row.created_at,
    }
    db.run("keep_data_key", given)
    return row


def _get(db: Database, ids: Sequence[str]) -> list[KeyRow | None]:
    found = {row.id: row for row in _rows(db, "data_keys", {"ids": as_json(list(ids))})}
    return [found.get(id) for id in ids]


def _rows(db: Database, query: str, bindings: dict[str, Value]) -> list[KeyRow]:
    return [KeyRow(*row) for row in db.rows(query, bindings)]


def _rewrap(db: Database, id: str, ring: str, to: str, wrapped: bytes) -> bool:
    return db.run("rewrap_data_key", {"id": id, "ring": ring, "to": to, "wrapped": wrapped}) == 1


def _erase(db: Database, id: str, now: float) -> bool:
    before = db.pragma("secure_delete")
    db.pragma("secure_delete", 1)
    try:
        return db.run("erase_data_key", {"id": id, "now": now}) == 1
    finally:
        db.pragma("secure_delete", before)
