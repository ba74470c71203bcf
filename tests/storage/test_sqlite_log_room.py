"""Room in the write-ahead log: there before commits need it, and never where somebody's pages are."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest

from helpers.faulty_disk import FaultyDisk
from perdure.storage.sqlite import SqliteStore
from perdure.storage.sqlite.checkpoint import Checkpointer
from perdure.storage.sqlite.connection import open_database
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.log_room import LogRoom
from perdure.testing.conformance.bench import Bench

PAGE = 4096
LIMIT = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def log_size(path: Path) -> int:
    return log_of(path).stat().st_size


class Notebook:
    """A connection that commits a line at a time, and tells its room how long the log is."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self.db: Database = open_database(str(path), vfs)
        self.room = LogRoom(self.db, LIMIT)
        self.db.connection.set_wal_hook(self._committed)
        self.db.script("CREATE TABLE IF NOT EXISTS lines (line TEXT)")

    def _committed(self, connection: apsw.Connection, schema: str, pages: int) -> int:
        self.room.committed(pages)
        return apsw.SQLITE_OK

    def write(self, *lines: str) -> None:
        for line in lines:
            self.db.begin()
            self.db.connection.execute("INSERT INTO lines VALUES (?)", (line,))
            self.db.commit()


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


def after_a_crash(path: Path) -> list[str]:
    """What is in a file and its log as they are now, for one who opens them without any process having closed them."""
    image = path.with_name("image.db")
    shutil.copyfile(path, image)
    shutil.copyfile(log_of(path), log_of(image))
    connection = apsw.Connection(str(image))
    assert connection.pragma("integrity_check") == "ok"
    lines = [line for (line,) in connection.execute("SELECT line FROM lines ORDER BY rowid")]
    connection.close()
    return lines


def test_commits_seldom_make_the_log_longer(path: Path) -> None:
    async def run() -> list[int]:
        bench = Bench(lambda: SqliteStore(path))
        await bench.open()
        row = await bench.make("r", owner=await bench.worker())
        sizes = []
        for number in range(200):
            await bench.append(row, b"x", expected=row.seq + number)
            sizes.append(log_size(path))
        await bench.close()
        return sizes

    sizes = asyncio.run(run())
    assert len(set(sizes[40:])) <= 4  # 320 pages or more; without room each commit would make it longer
    assert max(sizes) < 2 * LIMIT * PAGE


def test_who_commits_little_leaves_a_short_log(path: Path) -> None:
    notebook = Notebook(path)
    notebook.write(*numbered(0, 5))
    assert not notebook.room.wanted


def test_large_commits_need_no_room(path: Path) -> None:
    notebook = Notebook(path)
    for letter in "abcdefghijklmnopqrst":
        notebook.write(letter * 50 * PAGE)
        assert not notebook.room.wanted


def test_a_crash_finds_everything_before_the_zeros(path: Path) -> None:
    notebook = Notebook(path)
    notebook.write(*numbered(0, 20))
    assert notebook.room.wanted
    short = log_size(path)
    notebook.room.make()
    assert log_size(path) > short + 200 * PAGE
    assert not notebook.room.wanted
    assert after_a_crash(path) == numbered(0, 20)
    long = log_size(path)
    notebook.write(*numbered(20, 60))
    assert log_size(path) == long
    assert after_a_crash(path) == numbered(0, 60)


def test_room_is_made_behind_the_pages_of_others(path: Path) -> None:
    """They have committed since this connection looked at the log's length."""
    one, other = Notebook(path), Notebook(path)
    one.write(*numbered(0, 20))
    other.write(*numbered(20, 90))
    one.room.make()
    assert after_a_crash(path) == numbered(0, 90)
    one.write(*numbered(90, 100))
    other.room.make()
    other.write(*numbered(100, 110))
    assert after_a_crash(path) == numbered(0, 110)


def test_nobody_makes_room_while_another_writes(path: Path) -> None:
    one, other = Notebook(path), Notebook(path)
    one.write(*numbered(0, 20))
    other.db.begin()
    size = log_size(path)
    one.room.make()
    assert log_size(path) == size
    assert not one.room.wanted, "it is tried again after some commits, not with each"
    other.db.commit()
    one.write(*numbered(20, 40))
    assert one.room.wanted
    one.room.make()
    assert log_size(path) > size + 200 * PAGE


def test_no_room_is_made_beyond_the_next_checkpoint(path: Path) -> None:
    notebook = Notebook(path)
    for first in range(0, 2000, 20):
        notebook.write(*numbered(first, first + 20))
        if notebook.room.wanted:
            notebook.room.make()
    assert log_size(path) > LIMIT * PAGE
    assert not notebook.room.wanted


def test_a_log_that_was_emptied_gets_room_again(path: Path) -> None:
    notebook = Notebook(path)
    checkpointer = Checkpointer(notebook.db)
    for first in range(0, 1200, 20):
        notebook.write(*numbered(first, first + 20))
        checkpointer.run_if_due()
    checkpointer.truncate()
    assert log_size(path) == 0
    notebook.write(*numbered(1200, 1220))
    assert checkpointer.due
    checkpointer.run_if_due()
    assert log_size(path) > 200 * PAGE


@pytest.mark.parametrize("piece", [1, 2, 4])
def test_a_full_disk_gets_back_what_was_taken(path: Path, piece: int) -> None:
    disk = FaultyDisk()
    notebook = Notebook(path, disk.name)
    notebook.write(*numbered(0, 20))
    size = log_size(path)
    with disk.failing("write", apsw.SQLITE_FULL, nth=piece, only="-wal"):
        notebook.room.make()
    assert disk.faults == 1
    assert log_size(path) == size
    notebook.write(*numbered(20, 60))
    assert not notebook.room.wanted, "it isn't tried again"
    assert after_a_crash(path) == numbered(0, 60)


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_failing_disk_is_told(path: Path, operation: str) -> None:
    disk = FaultyDisk()
    notebook = Notebook(path, disk.name)
    notebook.write(*numbered(0, 20))
    with disk.failing(operation, apsw.SQLITE_IOERR, only="-wal"), pytest.raises(apsw.IOError):
        notebook.room.make()
    assert not notebook.db.connection.in_transaction
    assert after_a_crash(path) == numbered(0, 20)
