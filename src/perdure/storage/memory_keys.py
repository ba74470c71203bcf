"""The keys of subjects in a memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure.storage.keys import KeyRow
from perdure.storage.memory_database import MemoryDatabase


class MemoryKeys:
    """See KeyStore.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def obtain(self, row: KeyRow) -> KeyRow:
        keys = self._database().data_keys
        for there in keys.values():
            if there.subject == row.subject and there.wrapped is not None:
                return there
        keys[row.id] = row
        return row

    async def get(self, ids: Sequence[str]) -> list[KeyRow | None]:
        return [self._database().data_keys.get(id) for id in ids]

    async def of(self, subject: str) -> list[KeyRow]:
        found = [row for row in self._database().data_keys.values() if row.subject == subject]
        return sorted(found, key=lambda row: (row.created_at, row.id))

    async def page(self, *, after: str, limit: int) -> list[KeyRow]:
        keys = self._database().data_keys
        return [keys[id] for id in sorted(keys) if id > after][:limit]

    async def rewrap(self, id: str, ring: str, *, to: str, wrapped: bytes) -> bool:
        keys = self._database().data_keys
        row = keys.get(id)
        if row is None or row.wrapped is None or row.ring != ring:
            return False
        keys[id] = msgspec.structs.replace(row, ring=to, wrapped=wrapped)
        return True

    async def erase(self, id: str, *, now: float) -> bool:
        keys = self._database().data_keys
        row = keys.get(id)
        if row is None or row.wrapped is None:
            return False
        keys[id] = msgspec.structs.replace(row, wrapped=None, erased_at=now)
        return True
