"""The room of a PostgreSQL database. See storage/disk.py for what is promised.

What is free there the server uses again by itself, and gives back when it likes; that isn't told.
"""

from __future__ import annotations

from perdure.storage.disk import SAMPLE, SAMPLE_EVENTS, DiskUse, TableSize, estimated
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways

_FEW = 10_000


class PostgresDisk:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def use(self) -> DiskUse:
        return await self._ways.read(_use)

    async def shrink(self, *, bytes: int) -> int:
        return 0


async def _use(db: Database) -> DiskUse:
    tables = [TableSize(name, size) for name, size in await db.rows("table_sizes")]
    ((first, last),) = await db.rows("run_keys")
    runs = int(await db.value("few_runs", limit=_FEW))
    if runs == _FEW:
        runs = max(runs, int(await db.value("count_runs")))
    sampled = []
    if first is not None:
        many = last - first + 1
        keys = [first + i * many // SAMPLE for i in range(SAMPLE)]
        sampled = await db.rows("sampled_runs", keys=keys, most=SAMPLE_EVENTS)
    return DiskUse(
        bytes=sum(table.bytes for table in tables),
        free=0,
        log=0,
        shrinks=False,
        runs=runs,
        oldest=await db.value("oldest_run"),
        tables=tables,
        workflows=estimated([(name, *map(int, rest)) for name, *rest in sampled], runs),
        remainders=await db.value("count_remainders"),
    )
