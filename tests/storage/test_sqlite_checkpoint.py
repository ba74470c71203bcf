"""The write-ahead log stays small, without any commit waiting for it or failing because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from helpers.faulty_disk import FaultyDisk
from perdure.storage.records import RunRow
from perdure.storage.sqlite import SqliteStore, checkpoint
from perdure.testing.conformance.bench import Bench

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture(autouse=True)
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passive checkpoint from 20 pages on, one that empties the log from 200 on."""
    monkeypatch.setattr(checkpoint, "_PASSIVE_PAGES", 20)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PAGES", 200)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PATIENCE", 0.01)


def with_run(path: Path, disk: FaultyDisk, test: Callable[[Bench, RunRow], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(lambda: SqliteStore(path, vfs=disk.name))
        await bench.open()
        await test(bench, await bench.make("r", owner=await bench.worker()))
        await bench.close()

    asyncio.run(run())


async def fill(bench: Bench, row: RunRow, pages: int) -> RunRow:
    for n in range(pages):
        await bench.append(row, bytes(PAGE), expected=row.seq + n)
    return await bench.row(row.id)


def log_pages(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size // PAGE


def test_the_log_is_used_over_and_over(path: Path) -> None:
    async def test(bench: Bench, row: RunRow) -> None:
        await fill(bench, row, 300)
        assert log_pages(path) < 150  # a machine may be busy; without it there would be more than 300
        assert path.stat().st_size > 250 * PAGE

    with_run(path, FaultyDisk(), test)


def test_a_log_that_readers_held_up_is_emptied(path: Path) -> None:
    async def test(bench: Bench, row: RunRow) -> None:
        row = await fill(bench, row, 10)
        reader = apsw.Connection(str(path))
        reader.execute("BEGIN; SELECT count(*) FROM runs").get
        row = await fill(bench, row, 300)
        assert log_pages(path) > 300
        reader.execute("COMMIT")
        reader.close()
        await fill(bench, row, 40)
        assert log_pages(path) < 100

    with_run(path, FaultyDisk(), test)


@pytest.mark.parametrize(
    ("operation", "error"),
    [("sync", apsw.SQLITE_IOERR_FSYNC), ("write", apsw.SQLITE_IOERR_WRITE), ("write", apsw.SQLITE_FULL)],
)
def test_a_failing_checkpoint_harms_nobody(path: Path, operation: str, error: int) -> None:
    """What is in the log is safe; the checkpoint is tried again later."""
    disk = FaultyDisk()

    async def test(bench: Bench, row: RunRow) -> None:
        with disk.failing(operation, error, only=path.name, times=2):
            row = await fill(bench, row, 100)
        assert disk.faults == 2
        assert row.seq == 101
        await fill(bench, row, 100)
        assert log_pages(path) < 150  # as long as it grew meanwhile; all of it would be more than 200

    with_run(path, disk, test)
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    assert connection.execute("SELECT count(*) FROM events").get == 201
    connection.close()
