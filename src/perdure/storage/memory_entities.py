"""Finding entities in a memory store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from perdure.storage.entities import EntityKey
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run


class MemoryEntities:
    """See Entities.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def kinds(self) -> Sequence[tuple[str, int]]:
        return sorted(Counter(run.workflow for _, run in self._all()).items())

    async def find(
        self, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        found = [
            EntityKey(key, run.id)
            for key, run in self._all()
            if run.workflow == workflow
            and (text is None or text in run.id)
            and (before is None or key < before)
        ]
        return sorted(found, reverse=True)[:limit]

    def _all(self) -> Iterator[tuple[int, Run]]:
        for key, run in self._database().runs.items():
            if run.checkpoint is not None and run.next is None:
                yield key, run
