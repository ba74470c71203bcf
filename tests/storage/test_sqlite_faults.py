"""SQLite on a disk that fails: nothing acknowledged is lost, nothing is half there, and work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest
from everything import everything_once, is_sound

from helpers.faulty_disk import FaultyDisk
from perdure.errors import StoreError, StoreUnavailableError
from perdure.storage.records import Appended, RunRow, Stale
from perdure.storage.sqlite import SqliteStore
from perdure.storage.sqlite.checkpoint import Checkpointer
from perdure.storage.workers import Heartbeat
from perdure.testing.conformance.bench import NOW, Bench

FULL = apsw.SQLITE_FULL
WRITE = apsw.SQLITE_IOERR_WRITE
READ = apsw.SQLITE_IOERR_READ
FSYNC = apsw.SQLITE_IOERR_FSYNC


def on_disk(disk: FaultyDisk, path: Path, test: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a test on a store on this disk, then look into the file."""

    async def run() -> None:
        bench = Bench(lambda: SqliteStore(path, vfs=disk.name))
        await bench.open()
        try:
            await test(bench)
        finally:
            await bench.close()

    asyncio.run(run())
    assert is_sound(path)


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


async def attempt(bench: Bench, row: RunRow, event: bytes, *, child: bool = True) -> bool:
    """Append one event, and with it create a child of that name; whether it was acknowledged."""
    change = bench.change(row, event, children=[bench.new(event.decode())] if child else ())
    try:
        (answer,) = await bench.store.append([change])
    except StoreUnavailableError:
        return False
    assert isinstance(answer, Appended)
    assert answer.seq == row.seq + 1
    return True


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "for-ever"])
@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize(("operation", "error"), [("write", FULL), ("write", WRITE), ("sync", FSYNC)])
def test_what_is_acknowledged_is_kept(
    disk: FaultyDisk, tmp_path: Path, operation: str, error: int, nth: int, times: int
) -> None:
    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        acknowledged = [b"first"]
        failures = 0
        with disk.failing(operation, error, nth=nth, times=times):
            for n in range(10):
                if failures < 2:
                    if await attempt(bench, row, b"during-%d" % n):
                        acknowledged.append(b"during-%d" % n)
                        row = await bench.row("r")
                    else:
                        failures += 1
        assert disk.faults > 0
        if times > 1:
            assert failures == 2, "a fault that stays is reported each time"
        else:
            assert failures == (error == FULL), "a single I/O error is mended unseen"
        row = await bench.row("r")
        assert await attempt(bench, row, b"after")
        acknowledged.append(b"after")
        assert list(await bench.history(row)) == acknowledged
        rows = await bench.store.get([event.decode() for event in acknowledged[1:]])
        assert None not in rows

    on_disk(disk, tmp_path / "test.db", test)


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "for-ever"])
@pytest.mark.parametrize("nth", [1, 2, 7])
@pytest.mark.parametrize(("operation", "error"), [("write", FULL), ("write", WRITE), ("sync", FSYNC)])
def test_a_lone_append_is_kept(
    disk: FaultyDisk, tmp_path: Path, operation: str, error: int, nth: int, times: int
) -> None:
    """The event loop commits it itself; what goes wrong there, the writer thread sees through."""

    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        acknowledged = [b"first"]
        failures = 0
        with disk.failing(operation, error, nth=nth, times=times):
            for n in range(10):
                if failures < 2:
                    if await attempt(bench, row, b"during-%d" % n, child=False):
                        acknowledged.append(b"during-%d" % n)
                        row = await bench.row("r")
                    else:
                        failures += 1
        assert disk.faults > 0
        if times > 1:
            assert failures == 2
        else:  # a full disk is reported if the append happened to go by the thread at once
            assert failures <= (error == FULL)
        row = await bench.row("r")
        assert await attempt(bench, row, b"after", child=False)
        assert list(await bench.history(row)) == [*acknowledged, b"after"]

    on_disk(disk, tmp_path / "test.db", test)


def test_failed_jobs_left_no_trace(disk: FaultyDisk, tmp_path: Path) -> None:
    """A full disk is a definite no: the message says so, and the same work can be done again."""

    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        change = bench.change(row, b"x" * 10_000)
        with disk.failing("write", FULL):
            with pytest.raises(StoreUnavailableError, match=r"the disk is full.*Nothing.*free some space"):
                await bench.store.append([change])
            with pytest.raises(StoreUnavailableError):
                await bench.store.send("r", b"hello", now=NOW)
        assert await bench.row("r") == row
        assert await bench.store.append([change]) == [Appended(2)]
        assert await bench.inbox(row) == []

    on_disk(disk, tmp_path / "test.db", test)


def test_a_sync_that_fails_after_its_work(disk: FaultyDisk, tmp_path: Path) -> None:
    """SQLite takes the commit back, and the writer repeats it: everything happens exactly once."""

    async def test(bench: Bench) -> None:
        with fault_before_each(disk) as fault:
            await everything_once(bench, fault)
        assert disk.faults == 10

    @contextmanager
    def fault_before_each(disk: FaultyDisk) -> Iterator[Callable[[], object]]:
        armed = 0

        def plan(operation: str, filename: str) -> bool:
            nonlocal armed
            if armed and operation == "sync" and filename.endswith("-wal"):
                armed -= 1
                return True
            return False

        def arm() -> None:
            nonlocal armed
            armed = 1

        with disk.failing("sync", FSYNC, do_it_first=True):
            disk._plan = plan
            yield arm

    on_disk(disk, tmp_path / "test.db", test)


def test_a_commit_that_happens_and_is_reported_failed(
    disk: FaultyDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer finds its mark, or its appends find themselves: nothing happens twice."""
    armed = [False]
    committed = Checkpointer._committed

    def fail(self: Checkpointer, connection: apsw.Connection, schema: str, pages: int) -> int:
        if armed[0]:
            armed[0] = False
            return apsw.SQLITE_IOERR
        return committed(self, connection, schema, pages)

    monkeypatch.setattr(Checkpointer, "_committed", fail)

    def fault() -> None:
        assert not armed[0], "the last fault didn't happen"
        armed[0] = True

    async def test(bench: Bench) -> None:
        await everything_once(bench, fault)

    on_disk(disk, tmp_path / "test.db", test)


def test_a_stale_append_stays_stale_through_a_repair(disk: FaultyDisk, tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        worker = await bench.worker()
        rows = [await bench.make(name, owner=worker) for name in ("a", "b", "c")]
        changes = [bench.change(row, b"x") for row in rows]
        changes[1] = bench.change(rows[1], b"x", expected=9)
        with disk.failing("sync", FSYNC, times=1, only="-wal", do_it_first=True):
            answers = await bench.store.append(changes)
        assert answers == [Appended(2), Stale(1, 1), Appended(2)]
        assert disk.faults == 1

    on_disk(disk, tmp_path / "test.db", test)


def test_a_batch_of_large_events(disk: FaultyDisk, tmp_path: Path) -> None:
    """It is inserted in parts."""

    async def test(bench: Bench) -> None:
        worker = await bench.worker()
        created = await bench.store.create([bench.new(f"r{n}", owner=worker) for n in range(12)])
        events = [[bytes([n]) * 500_000, b"small", bytes([n + 100]) * 500_000] for n in range(12)]
        await bench.store.append(
            [bench.change(one.row, *more) for one, more in zip(created, events, strict=True)]
        )
        histories = await bench.store.load([one.row.run for one in created])
        assert [list(history.events[1:]) for history in histories] == events

    on_disk(disk, tmp_path / "test.db", test)


def test_readers_mend_themselves(disk: FaultyDisk, tmp_path: Path) -> None:
    """While the disk can't be written, one can still look."""

    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        with disk.failing("sync", FSYNC):
            with pytest.raises(StoreUnavailableError, match="I/O error"):
                await bench.append(row, b"x")
            assert await bench.row("r") == row
        assert await bench.append(row, b"y") == Appended(2)

    on_disk(disk, tmp_path / "test.db", test)


def test_one_sync_a_commit(disk: FaultyDisk, tmp_path: Path) -> None:
    """Neither more (slow) nor less (not durable): appends one after the other, and many at once."""

    async def test(bench: Bench) -> None:
        worker = await bench.worker()
        created = await bench.store.create([bench.new(f"r{n}", owner=worker) for n in range(100)])
        row = created[0].row
        for n in range(40):
            await bench.append(row, b"x", expected=row.seq + n)  # now the log has room
        before = disk.log_syncs
        for n in range(40, 60):
            await bench.append(row, b"x", expected=row.seq + n)
        assert disk.log_syncs - before == 20
        before = disk.log_syncs
        await bench.store.append([bench.change(one.row, b"x") for one in created[1:]])
        assert disk.log_syncs - before == 1
        before = disk.log_syncs
        await bench.claim(worker)
        await bench.store.heartbeat(worker + 1, Heartbeat(NOW, NOW))
        assert disk.log_syncs == before, "nothing changed, so nothing is synced"

    on_disk(disk, tmp_path / "test.db", test)


def test_a_job_that_is_refused_fails_alone(disk: FaultyDisk, tmp_path: Path) -> None:
    """Jobs of one turn share a transaction; one that breaks a rule doesn't take the others down."""

    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        outcomes = await asyncio.gather(
            bench.store.create([bench.new("a")]),
            bench.store.create([bench.new("bad", on_parent_close="cancel", fingerprint=None)]),
            bench.store.append([bench.change(row, b"x")]),
            bench.store.create([bench.new("b", queue=object())]),
            bench.store.send("r", b"hello", now=NOW),
            return_exceptions=True,
        )
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False, True, False]
        assert outcomes[2] == [Appended(2)]
        assert await bench.inbox(row) == [b"hello"]
        assert [row and row.id for row in await bench.store.get(["a", "bad", "b"])] == ["a", None, None]

    on_disk(disk, tmp_path / "test.db", test)


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "for-ever"])
@pytest.mark.parametrize(("operation", "error"), [("read", READ), ("write", WRITE), ("sync", FSYNC)])
def test_an_open_that_fails_leaves_no_connection(
    operation: str, error: int, times: int, tmp_path: Path
) -> None:
    """Whoever is told may keep the error, and with it what the frames on its way held: a connection keeps its lock."""
    told: list[StoreError] = []

    async def opens(store: SqliteStore) -> None:
        try:
            await store.open()
        except StoreError as error:
            told.append(error)
        else:
            await store.close()

    for nth in count(1):
        path = tmp_path / f"{nth}.db"
        asyncio.run(opens(SqliteStore(path)))
        disk = FaultyDisk()
        with disk.failing(operation, error, nth=nth, times=times):
            asyncio.run(opens(SqliteStore(path, vfs=disk.name)))
        alone: Any = apsw.Connection(str(path))
        alone.pragma("locking_mode", "EXCLUSIVE")
        assert alone.pragma("integrity_check") == "ok"
        alone.close()
        if not disk.faults:
            break
