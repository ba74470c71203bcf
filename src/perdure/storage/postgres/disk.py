"""The room of a PostgreSQL database. See storage/disk.py for what is promised.

Keys of runs are time-ordered, so a partition of `events` by ranges of keys holds what was started in a span of time.
It is dropped when no run of its span is left. Whoever drops one has to lock the whole table for a moment; it waits for
that half a second at most, lets everybody pass, and tries again at the next pass.

What is free there the server uses again by itself, and gives back when it likes; that isn't told.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from psycopg import errors

from perdure.errors import StoreError
from perdure.storage.disk import AHEAD, SAMPLE, SAMPLE_EVENTS, DiskUse, TableSize, Tended, estimated, spans
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import RANDOM_BITS
from perdure.storage.postgres.ways import Ways

_FEW = 10_000


logger = logging.getLogger("perdure.postgres")

#: Rows of a removed run wait so many seconds for their partition to go as a whole.
LINGER = 7 * 86_400.0
#: By so much the clocks of those who make keys may differ, in seconds.
_SKEW = 86_400.0

_EVENTS = """
DROP TABLE perdure.events;
CREATE TABLE perdure.events (
    run bigint NOT NULL, seq bigint NOT NULL, link bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, seq)
) PARTITION BY RANGE (run);
CREATE TABLE perdure.events_others PARTITION OF perdure.events DEFAULT;
"""


class PostgresDisk:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def use(self) -> DiskUse:
        return await self._ways.read(_use)

    async def partition(self, span: str) -> bool:
        await self._ways.beside(_partition, span, marked=False)
        return True

    async def tend(self, *, now: float) -> Tended:
        span = await self._ways.read(_partitioned_by)
        if span is None:
            return Tended()
        made: list[str] = []
        dropped: list[str] = []
        there = await self._ways.read(_partitions)
        for name, begin, end in spans(span, now, AHEAD):
            table = f"events_p{name}"
            if table not in there and await self._ways.beside(_make, table, begin, end, marked=False):
                made.append(table)
        for table in there:
            low, high = _range(span, table)
            if high <= _key(now - _SKEW) and await self._ways.beside(_drop, table, low, high, marked=False):
                dropped.append(table)
        return Tended(made, dropped)

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
        workflows=estimated([(name, int(n), int(seen), int(size)) for name, n, seen, size in sampled], runs),
        remainders=await db.value("count_remainders"),
    )


# -- partitions -----------------------------------------------------------------------------------------


def _key(at: float) -> int:
    """The lowest key of runs that are created from this moment on."""
    return int(at * 1000) << RANDOM_BITS


def _range(span: str, table: str) -> tuple[int, int]:
    """The keys of a partition, by its name."""
    begin = datetime.strptime(table.removeprefix("events_p"), "%Y%m%d").replace(tzinfo=UTC)
    ((_, low, high),) = spans(span, begin.timestamp(), 0)
    return _key(low), _key(high)


async def current_range(db: Database) -> int:
    """The lowest key of what may not be dropped as a whole yet; 0 without partitions."""
    span = await _partitioned_by(db)
    return 0 if span is None else _key(spans(span, time.time(), 0)[0][1])


async def _partitioned_by(db: Database) -> str | None:
    span: str | None = await db.value("partitioned_by")
    return span


async def _partitions(db: Database) -> list[str]:
    return [name for (name,) in await db.rows("partitions")]


async def _partition(db: Database, span: str) -> None:
    await db.rows("lock_new_meta")
    if await db.value("partitioned_by") == span:
        return
    if await db.value("any_event") or await db.value("partitioned_by"):
        raise StoreError(
            "The events of this database can't be partitioned any more: there are some, or they are already. Make a "
            "new database, and `perdure move` the runs there."
        )
    await db.connection.execute(_EVENTS.encode())
    await db.run("note_partitions", span=span)


async def _make(db: Database, table: str, begin: float, end: float) -> bool:
    low, high = _key(begin), _key(end)
    statement = (
        f"CREATE TABLE perdure.{table} PARTITION OF perdure.events FOR VALUES FROM ({low}) TO ({high})"
    )
    return await _briefly(db, statement, f"partition {table} isn't made yet")


async def _drop(db: Database, table: str, low: int, high: int) -> bool:
    if await db.value("left_in_range", low=low, high=high):
        return False
    if not await _briefly(db, f"DROP TABLE perdure.{table}", f"partition {table} isn't dropped yet"):
        return False
    await db.run("hasten", low=low, high=high)
    return True


async def _briefly(db: Database, statement: str, said: str) -> bool:
    """Run a statement that locks the table of events, if it gets the lock soon."""
    await db.connection.execute(b"SET LOCAL lock_timeout = '500ms'")
    await db.connection.execute(b"SAVEPOINT tending")
    try:
        await db.connection.execute(statement.encode())
    except (
        errors.LockNotAvailable,
        errors.DuplicateTable,
        errors.UndefinedTable,
        errors.CheckViolation,
    ) as error:
        await db.connection.execute(b"ROLLBACK TO SAVEPOINT tending")
        logger.info("%s: %s", said, error)
        return False
    return True
