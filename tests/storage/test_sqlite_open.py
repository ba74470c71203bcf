"""Opening: good files open safely, others are refused untouched and with a clear message."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import perdure
from helpers.faulty_disk import FaultyDisk
from perdure.errors import (
    ConfigurationError,
    NewerSchemaError,
    NotADatabaseError,
    PerdureError,
    StoreUnavailableError,
)
from perdure.storage.migrate import load_migrations
from perdure.storage.sql import load_queries
from perdure.storage.sqlite import SqliteStore
from perdure.storage.sqlite.connection import MIGRATIONS, open_database
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.migrating import is_ready, migrate


def opened(path: Path, disk: FaultyDisk | None = None) -> None:
    async def run() -> None:
        store = SqliteStore(path, vfs=disk and disk.name)
        await store.open()
        await store.close()

    asyncio.run(run())


def foreign(path: Path, statements: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statements)
    connection.close()


def test_text_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, today I was nearly overwritten.\n" * 100)
    before = path.read_bytes()
    with pytest.raises(NotADatabaseError, match=r"notes\.txt isn't a SQLite database.*untouched.*path"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statements",
    ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"],
    ids=["tables", "application-id", "user-version"],
)
def test_another_programs_database_is_left_alone(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "theirs.db"
    foreign(path, statements)
    before = path.read_bytes()
    with pytest.raises(NotADatabaseError, match=r"not one of Perdure's.*untouched.*another path"):
        opened(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    opened(path)
    opened(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    opened(path)
    foreign(path, "PRAGMA user_version = 999")
    with pytest.raises(NewerSchemaError, match=r"schema version 999.*Upgrade Perdure"):
        opened(path)


def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path, disk = tmp_path / "test.db", FaultyDisk()
    opened(path)
    disk.read_only = True
    with pytest.raises(StoreUnavailableError, match=r"read-only.*Make it writable"):
        opened(path, disk)


@pytest.mark.parametrize("name", ["", "missing/test.db"], ids=["directory", "no-directory"])
def test_a_path_that_cant_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"can't be opened.*directory"):
        opened(tmp_path / name)


@pytest.mark.parametrize("operation", ["write", "sync"])
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_a_disk_that_fails_while_the_file_is_made(tmp_path: Path, operation: str, nth: int) -> None:
    """The error is clear, and the next try succeeds."""
    path, disk = tmp_path / "test.db", FaultyDisk()
    with disk.failing(
        operation, apsw.SQLITE_FULL if operation == "write" else apsw.SQLITE_IOERR_FSYNC, nth=nth
    ):
        with pytest.raises(StoreUnavailableError):
            opened(path, disk)
    opened(path, disk)


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(ConfigurationError, match=r"3\.51\.2.*corrupt.*pip install -U apsw"):
        opened(tmp_path / "test.db")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_make_commits_durable(tmp_path: Path) -> None:
    db = open_database(str(tmp_path / "test.db"))
    assert db.pragma("journal_mode") == "wal"
    assert db.pragma("synchronous") == 2
    db.close()


def test_a_file_without_wal_is_refused() -> None:
    """SQLite quietly keeps another journal mode where it can't have a log beside the file."""
    with pytest.raises(StoreUnavailableError, match=r"journal_mode=memory.*local disk"):
        open_database(":memory:")


def test_the_last_one_to_leave_tidies_up(tmp_path: Path) -> None:
    opened(tmp_path / "test.db")
    assert [path.name for path in tmp_path.iterdir()] == ["test.db"]


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    errors: list[BaseException] = []

    def run() -> None:
        try:
            opened(path)
        except PerdureError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


FORKING = """
import asyncio, gc, os, sys
from perdure.errors import StoreUnavailableError
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance.bench import Bench

async def main():
    bench = Bench(lambda: SqliteStore(sys.argv[1]))
    await bench.open()
    row = await bench.make("r", owner=await bench.worker())
    child = os.fork()
    if child == 0:
        try:
            bench.store.append([bench.change(row, b"from the child")])
        except StoreUnavailableError as error:
            print(error, flush=True)
            del bench
            gc.collect()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    await bench.append(row, b"from the parent")
    print([event for _, event in await bench.store.events(row.run)])
    await bench.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't fork")
def test_a_forked_child_keeps_its_hands_off(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    script = [sys.executable, "-W", "ignore", "-c", FORKING, str(path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.splitlines()
    assert "forked" in child
    assert "Open a store of its own" in child
    assert parent == "[b'first', b'from the parent']"


def test_migrations_must_be_in_line(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("SELECT 1")
    (tmp_path / "0003_third.sql").write_text("SELECT 3")
    with pytest.raises(ConfigurationError, match=r"0003_third\.sql is out of line.*0002 is due"):
        load_migrations(tmp_path)


@pytest.mark.parametrize("text", ["-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;", "-- name:\nSELECT 1;"])
def test_queries_must_have_names_of_their_own(tmp_path: Path, text: str) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="give each query its own name"):
        load_queries(tmp_path)


def test_queries_are_read_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(
        "-- header\n\n-- name: one\n-- What for.\nSELECT 1\n -- So.\n FROM x;\n\n-- name: two\nSELECT 2;\n"
    )
    assert load_queries(tmp_path) == {"one": "SELECT 1\nFROM x", "two": "SELECT 2"}


def test_what_queries_have_in_common_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "parts.sql").write_text("-- part: of_one\n  AND a = 1\n  -- why\n  AND b = 2\n")
    (tmp_path / "queries.sql").write_text("-- name: one\nSELECT 1\n  -- with: of_one\nLIMIT 1;\n")
    assert load_queries(tmp_path) == {"one": "SELECT 1\nAND a = 1\nAND b = 2\nLIMIT 1"}
    (tmp_path / "parts.sql").unlink()
    with pytest.raises(ConfigurationError, match="'one' is to be made with 'of_one', which is no part"):
        load_queries(tmp_path)


def test_an_unopened_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "test.db")
    uses: list[Callable[[], object]] = [lambda: store.append([]), lambda: asyncio.run(store.get([]))]
    for use in uses:
        with pytest.raises(StoreUnavailableError, match=r"isn't open yet: await store\.open\(\)"):
            use()


def test_another_process_makes_the_schema_while_this_one_looks_for_it(tmp_path: Path) -> None:
    """What tells a new file from somebody else's is read bit by bit, and must be one picture all the same."""
    path = str(tmp_path / "new.db")
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = WAL")

    class Overtaken(Database):
        overtakers = 0

        def pragma(self, name: str, value: int | str | None = None) -> Any:
            found = super().pragma(name, value)
            if name == "application_id" and not self.overtakers:
                self.overtakers += 1
                open_database(path).connection.close()
            return found

    db = Overtaken(connection, load_queries(Path(perdure.__file__).parent / "storage/sqlite/queries"))
    migrate(db, path, MIGRATIONS)
    assert db.overtakers == 1
    assert is_ready(db, path, MIGRATIONS)
    connection.close()
