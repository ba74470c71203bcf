"""The room of a memory store, which takes none on a disk."""

from __future__ import annotations

from collections.abc import Callable

from perdure.storage.disk import DiskUse, Tended, estimated
from perdure.storage.memory_database import MemoryDatabase


class MemoryDisk:
    """See Disk.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def use(self) -> DiskUse:
        runs = list(self._database().runs.values())
        sampled = [
            (run.workflow, len(run.events), len(run.events), sum(map(len, run.events))) for run in runs
        ]
        return DiskUse(
            bytes=0,
            free=0,
            log=0,
            shrinks=False,
            runs=len(runs),
            oldest=runs[0].created_at if runs else None,
            tables=(),
            workflows=estimated(sampled, len(runs)),
            remainders=0,
        )

    async def partition(self, span: str) -> bool:
        return False

    async def tend(self, *, now: float) -> Tended:
        return Tended()

    async def shrink(self, *, bytes: int) -> int:
        self._database()
        return 0
