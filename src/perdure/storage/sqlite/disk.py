"""The room of a SQLite file. See storage/disk.py for what is promised."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.storage.disk import COUNTED, SAMPLE, SAMPLE_EVENTS, DiskUse, TableSize, Tended, estimated
from perdure.storage.sqlite.connection import MIGRATIONS, open_database
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json

_INCREMENTAL = 2


class SqliteDisk:
    """See Disk.

    Args:
        write, read: hand a verb to the store's writer, or reader.
        path: the file.
    """

    def __init__(
        self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]], path: str
    ) -> None:
        self._write = write
        self._read = read
        self._path = path

    async def use(self) -> DiskUse:
        use: DiskUse = await self._read(_use, self._path)
        return use

    async def partition(self, span: str) -> bool:
        return False

    async def tend(self, *, now: float) -> Tended:
        return Tended()

    async def shrink(self, *, bytes: int) -> int:
        if not await self._read(_may_shrink):
            return 0
        given: int = await self._write(_shrink, bytes)
        return given


def _use(db: Database, path: str) -> DiskUse:
    page = int(db.pragma("page_size"))
    size, free = page * int(db.pragma("page_count")), page * int(db.pragma("freelist_count"))
    tables = [TableSize(*row) for row in db.rows("table_sizes")] if size <= COUNTED else []
    try:
        log = os.path.getsize(f"{path}-wal")
    except OSError:
        log = 0
    ((first, last),) = db.rows("run_keys")
    runs, sampled = 0, []
    if first is not None:
        many = last - first + 1
        keys = (
            range(first, last + 1) if many <= SAMPLE else [first + i * many // SAMPLE for i in range(SAMPLE)]
        )
        found = db.rows("sampled_runs", {"keys": as_json(list(keys)), "most": SAMPLE_EVENTS})
        there = [row for row in found if row[-1]]
        runs = round(many * len(there) / len(keys))
        sampled = [row[:-1] for row in (there if many <= SAMPLE else found)]
    return DiskUse(
        bytes=size,
        free=free,
        log=log,
        shrinks=int(db.pragma("auto_vacuum")) == _INCREMENTAL,
        runs=runs,
        oldest=db.value("oldest_run"),
        tables=tables,
        workflows=estimated(sampled, runs),
        remainders=db.value("count_remainders"),
    )


def _may_shrink(db: Database) -> bool:
    return int(db.pragma("auto_vacuum")) == _INCREMENTAL and _spare(db) > 0


def _spare(db: Database) -> int:
    """Free pages that can be given back. An eighth of the file stays: what is written next needs room, too."""
    return int(db.pragma("freelist_count")) - int(db.pragma("page_count")) // 8


def _shrink(db: Database, most: int) -> int:
    page, before = int(db.pragma("page_size")), int(db.pragma("freelist_count"))
    pages = min(max(1, most // page), _spare(db))
    if pages > 0:
        connection: Any = db.connection
        connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()  # it frees a page at each step
    return page * (before - int(db.pragma("freelist_count")))


def vacuum_file(path: str) -> int:
    """Write the whole file anew, so that it can shrink in steps from then on; returns by how many bytes it shrank.

    Nobody can write meanwhile. It takes as much room again until it is done.
    """
    before = os.path.getsize(path)
    db = open_database(path, None, MIGRATIONS)
    try:
        db.pragma("auto_vacuum", _INCREMENTAL)
        db.script("VACUUM")
        db.pragma("wal_checkpoint(TRUNCATE)")
    finally:
        db.close()
    return max(0, before - os.path.getsize(path))
