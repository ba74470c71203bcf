"""The n-th operation of the disk fails, for n = 1, 2, 3, ... until a whole script of jobs runs through without a fault.

It fails once, or from then on until somebody has been told. Either way each job happens exactly once, though whoever
was told that one failed simply repeats it; and the file is sound at the end. The script opens a new file, does each
kind of job, checkpoints, closes, and opens again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest
from everything import everything_once, is_sound

from helpers.faulty_disk import FaultyDisk
from perdure.errors import StoreUnavailableError
from perdure.storage.records import Appended
from perdure.storage.sqlite import SqliteStore, checkpoint, writer
from perdure.testing.conformance.bench import Bench

SOAK = os.environ.get("PERDURE_SOAK") == "1"

#: (operation, what SQLite is told, whether it is done nevertheless, every how many-th one is tried if time is short)
FAULTS = {
    "write-eio": ("write", apsw.SQLITE_IOERR_WRITE, False, 9),
    "write-eio-done": ("write", apsw.SQLITE_IOERR_WRITE, True, 23),
    "write-full": ("write", apsw.SQLITE_FULL, False, 13),
    "sync-eio": ("sync", apsw.SQLITE_IOERR_FSYNC, False, 2),
    "sync-eio-done": ("sync", apsw.SQLITE_IOERR_FSYNC, True, 3),
    "truncate-eio": ("truncate", apsw.SQLITE_IOERR_TRUNCATE, False, 1),
    "delete-eio": ("delete", apsw.SQLITE_IOERR_DELETE, False, 1),
    "read-eio": ("read", apsw.SQLITE_IOERR_READ, False, 31),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and checkpoints within the script."""
    monkeypatch.setattr(writer, "_REPAIR_PAUSES", (0.0, 0.001, 0.001))
    monkeypatch.setattr(checkpoint, "_PASSIVE_PAGES", 20)
    monkeypatch.setattr(checkpoint, "_TRUNCATE_PAGES", 60)


class Persistent:
    """A store whose user repeats what failed, after the disk was mended."""

    def __init__(self, inner: SqliteStore, disk: FaultyDisk) -> None:
        self._inner = inner
        self._disk = disk
        self.told = 0  #: how often something was said to have failed

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def insists(*args: Any, **options: Any) -> Any:
            for _ in range(2):
                try:
                    return await verb(*args, **options)
                except StoreUnavailableError as error:
                    if "can't be used" not in str(error):
                        raise
                    self.told += 1
                    self._disk.heal()
            return await verb(*args, **options)

        return insists


async def script(disk: FaultyDisk, path: Path) -> int:
    """Do everything, persistently. Returns how often a job was said to have failed."""
    told = 0
    for number in range(2):
        store = Persistent(SqliteStore(path, vfs=disk.name), disk)
        bench = Bench(lambda: store)  # type: ignore[arg-type, return-value]
        await bench.open()
        if number == 0:
            await everything_once(bench, lambda: None)
            row = await bench.row("r")
            for part in range(12):  # so much that it is checkpointed
                await bench.append(row, bytes(9000), expected=row.seq + part)
        else:
            assert (await bench.row("r")).seq == row.seq + 12
        await bench.close()
        told += store.told
    return told


def numbers(step: int) -> Iterator[int]:
    return count(1, 1 if SOAK else step)


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "for-ever"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_nth_operation_fails(
    fault: str, times: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    operation, error, do_it_first, step = FAULTS[fault]
    told = tried = 0
    for nth in numbers(step):
        disk = FaultyDisk()
        path = tmp_path / f"{nth}.db"
        with disk.failing(operation, error, nth=nth, times=times, do_it_first=do_it_first):
            told += asyncio.run(script(disk, path))
        assert is_sound(path)
        if disk.faults == 0:
            break
        tried += 1
    record_property("figure", f"{tried} faults, {told} jobs were told of them, 0 lost, 0 done twice")
    assert tried > 1


def test_what_was_refused_may_have_happened_after_a_crash(tmp_path: Path) -> None:
    """A disk that syncs no more: nobody can know what is on it. Whoever repeats the same work is answered rightly."""
    disk = FaultyDisk()
    (before := tmp_path / "before").mkdir()
    after = tmp_path / "after"

    async def refused() -> tuple[Any, Any]:
        bench = Bench(lambda: SqliteStore(before / "runs.db", vfs=disk.name))
        await bench.open()
        row = await bench.make("r", owner=await bench.worker())
        change = bench.change(row, b"second", children=[bench.new("child")])
        with disk.failing("sync", apsw.SQLITE_IOERR_FSYNC, only="-wal"):
            with pytest.raises(
                StoreUnavailableError, match="Whether the last transaction is on disk is unknown"
            ):
                await bench.store.append([change])
            assert await bench.row("r") == row, "as long as the process lives, it hasn't happened"
            shutil.copytree(before, after)  # as the process leaves it if it dies now
        await bench.close()
        return row, change

    async def repeated(row: Any, change: Any) -> None:
        bench = Bench(lambda: SqliteStore(after / "runs.db"))
        await bench.open()
        happened = (await bench.row("r")).seq == 2
        assert (await bench.store.get(["child"]) != [None]) == happened
        (answer,) = await bench.store.append([change])
        assert isinstance(answer, Appended)
        assert answer.seq == 2
        assert list(await bench.history(row)) == [b"first", b"second"]
        await bench.close()

    asyncio.run(repeated(*asyncio.run(refused())))
    assert is_sound(after / "runs.db")
