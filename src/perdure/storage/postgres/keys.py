"""The keys of subjects in a PostgreSQL store. See storage/keys.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.storage.keys import KeyRow
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways


class PostgresKeys:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def obtain(self, row: KeyRow) -> KeyRow:
        return await self._ways.write(_obtain, row)

    async def get(self, ids: Sequence[str]) -> list[KeyRow | None]:
        rows = await self._ways.read(_rows, "data_keys", {"ids": list(ids)})
        found = {row.id: row for row in rows}
        return [found.get(id) for id in ids]

    async def of(self, subject: str) -> list[KeyRow]:
        return await self._ways.read(_rows, "data_keys_of", {"subject": subject})

    async def page(self, *, after: str, limit: int) -> list[KeyRow]:
        return await self._ways.read(_rows, "data_keys_page", {"after": after, "limit": limit})

    async def rewrap(self, id: str, ring: str, *, to: str, wrapped: bytes) -> bool:
        return await self._ways.write(_rewrap, id, ring, to, wrapped)

    async def erase(self, id: str, *, now: float) -> bool:
        return await self._ways.write(_erase, id, now)


async def _obtain(db: Database, row: KeyRow) -> KeyRow:
    given = {"id": row.id, "subject": row.subject, "ring": row.ring, "wrapped": row.wrapped}
    for _ in range(2):  # whoever is first has it; the other one sees it then
        for found in await db.rows("data_key_of", subject=row.subject):
            return KeyRow(*found)
        if await db.run("keep_data_key", created_at=float(row.created_at), **given):
            break
    else:
        (there,) = await db.rows("data_key_of", subject=row.subject)
        return KeyRow(*there)
    return row


async def _rows(db: Database, query: str, bindings: dict[str, Any]) -> list[KeyRow]:
    return [KeyRow(*row) for row in await db.rows(query, **bindings)]


async def _rewrap(db: Database, id: str, ring: str, to: str, wrapped: bytes) -> bool:
    return await db.run("rewrap_data_key", id=id, ring=ring, to=to, wrapped=wrapped) == 1


async def _erase(db: Database, id: str, now: float) -> bool:
    return await db.run("erase_data_key", id=id, now=float(now)) == 1
