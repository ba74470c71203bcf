"""Syncs fail at chosen moments, and then power is lost: what Linux forgets is not what SQLite thinks is on the disk.

After a failed sync the pages that weren't written count as written: they stay in the system's cache, where everybody
reads them, and no later sync writes them. Each test brings about one state in which that matters, and looks at images
of the moments after it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from perdure.errors import StoreUnavailableError
from perdure.storage.sqlite import SqliteStore, writer
from perdure.storage.sqlite.writer import Writer
from perdure.testing.conformance.bench import Bench
from perdure.testing.deeds import DATABASE, Deeds, check, look, moment
from perdure.testing.disk import Failed, RecordingDisk
from perdure.testing.powerloss import Directories, Platter, put

LOG = f"{DATABASE}-wal"
PAGE = 4096
PASSIVE = 25  #: pages in the log, from which on it is copied; see conftest.py
DRAWN = 10  #: images of each moment


class Failing(RecordingDisk):
    """A disk on which chosen syncs of a file fail.

    Attributes:
        verdicts: of its next syncs, by the file's name; True is a failure.
        forgets: the system throws what it couldn't write out of its cache, as some file systems do, and others when
            memory is short. Who reads it gets what was there before.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.verdicts: dict[str, list[bool]] = {}
        self.forgets = False
        self._safe: dict[int, bytes] = {}
        super().__init__(folder)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        opened: Any = super().xOpen(name, flags)
        real = opened.xSync

        def sync(flags: int) -> None:
            verdicts = self.verdicts.get(self._name(opened.number))
            if not (verdicts and verdicts.pop(0)):
                real(flags)
                self._safe[opened.number] = apsw.VFSFile.xRead(opened, apsw.VFSFile.xFileSize(opened), 0)
                return
            self.log.append(Failed(opened.number))
            if self.forgets:
                safe = self._safe[opened.number]
                for offset in range(0, len(safe), PAGE):
                    cast(Any, apsw.VFSFile).xWrite(opened, safe[offset : offset + PAGE], offset)
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

        opened.xSync = sync
        return opened

    def _name(self, file: int) -> str:
        return next(name for name, number in self._files.items() if number == file)

    @property
    def failed(self) -> int:
        return sum(isinstance(operation, Failed) for operation in self.log)


class Stage:
    """A store on such a disk, and a run to append to; everything acknowledged is remembered."""

    def __init__(self, disk: Failing, path: Path) -> None:
        self.disk = disk
        self.path = path
        self.deeds = Deeds(disk)
        self.bench = Bench(lambda: SqliteStore(path, vfs=disk.name))

    async def open(self) -> None:
        await self.bench.open()
        self.disk.mark("opened")
        if not self.deeds.all:
            worker = await self.bench.worker()
            await self.deeds.do(self.bench.make("r", owner=worker), made=["r"])
            row = await self.bench.row("r")
            self.run, self.row, self.seq = row.run, row, row.seq

    async def reopen(self) -> None:
        """After this the log is empty."""
        await self.bench.close()
        await self.open()

    async def append(self, pages: int = 2) -> None:
        event = random.Random(self.seq).randbytes(pages * PAGE)
        change = self.bench.change(self.row, event, expected=self.seq)
        self.seq += 1
        await self.deeds.do_soon(
            lambda: self.bench.store.append([change]), {"events": {(self.run, self.seq): event}}
        )

    def log_state(self) -> tuple[int, int]:
        """How many pages are in the log, and how many of them in the database file."""
        probe = apsw.Connection(str(self.path), vfs=self.disk.name)
        try:
            cast(Any, probe).pragma("user_version")
            return probe.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
        finally:
            probe.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            probe.close()

    def alone(self) -> None:
        """Let the reader's connection go: it would keep the log's index."""
        store: Any = self.bench.store
        store._reader._disconnect()

    def reader(self) -> Any:
        """Somebody who looks, and stays in that transaction."""
        reader: Any = apsw.Connection(str(self.path), vfs=self.disk.name)
        reader.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        reader.execute("BEGIN; SELECT count(*) FROM runs").get
        return reader


def after_the_failure(deeds: Deeds, place: Path, every: int = 1) -> int:
    """Look at images of moments after the first failed sync. Returns how many."""
    log = deeds.disk.log
    tried = 0
    for seed in range(DRAWN):
        chance = random.Random(seed)
        platter = Platter(Directories.JOURNALLED, chance)
        failed = False
        for number, operation in enumerate(log, 1):
            platter.apply(operation)
            failed = failed or isinstance(operation, Failed)
            if failed and (number + seed) % every == 0:
                put(platter.image(chance), place)
                check(look(place), deeds.all, moment(log, number))
                tried += 1
    return tried


def played(tmp_path: Path, play: Callable[[Stage], Awaitable[None]]) -> Stage:
    async def run() -> Stage:
        stage = Stage(Failing(tmp_path / "disk"), tmp_path / "disk" / DATABASE)
        await stage.open()
        await play(stage)
        await stage.bench.close()
        return stage

    return asyncio.run(run())


def half_copied(pages: int, copied: int) -> bool:
    return 0 < copied < pages


@pytest.mark.parametrize("forgets", [False, True], ids=["kept-in-the-cache", "thrown-away"])
def test_half_a_checkpoint_and_then_a_failed_sync(forgets: bool, tmp_path: Path) -> None:
    """A reader stops a checkpoint half-way: what it has copied isn't synced, but counts as done. The next one fails."""

    async def play(stage: Stage) -> None:
        stage.disk.forgets = forgets
        await stage.reopen()
        for _ in range(3):
            await stage.append()
        assert 0 < stage.log_state()[0] < PASSIVE
        assert stage.log_state()[1] == 0
        reader = stage.reader()
        async with asyncio.timeout(60):
            while not half_copied(*stage.log_state()):
                await stage.append()
            stage.disk.verdicts[DATABASE] = [True]
            reader.execute("COMMIT")
            reader.close()
            while stage.disk.failed == 0:
                await stage.append()
        for _ in range(30):
            await stage.append()

    stage = played(tmp_path, play)
    assert after_the_failure(stage.deeds, tmp_path / "image", every=24) > 100


def test_the_only_connection_meets_a_failed_sync(tmp_path: Path) -> None:
    """If it went, the log would be read anew, with a commit that only the system's cache has."""

    async def play(stage: Stage) -> None:
        await stage.reopen()
        stage.alone()
        stage.disk.verdicts[LOG] = [
            False,
            True,
            True,
        ]  # of the log's head; of the commit; of the first repair
        await stage.append()
        assert stage.disk.failed == 2
        await stage.append()

    stage = played(tmp_path, play)
    assert after_the_failure(stage.deeds, tmp_path / "image", every=2) > 100


def mended(writer: Writer) -> bool:
    with writer._mutex:
        return writer._db is not None


def test_a_refused_commit_doesnt_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers keep the repair from emptying the log. What is left there mustn't be taken for committed after a kill."""
    close = writer._close

    def closes(connection: apsw.Connection, *, in_order: bool = False) -> None:
        close(connection)

    monkeypatch.setattr(writer, "_REPAIR_PAUSES", (0.0,))
    monkeypatch.setattr(writer, "_RECONNECT_EVERY", 0.01)

    async def play(stage: Stage) -> None:
        for _ in range(3):
            await stage.append()
        reader = stage.reader()
        await stage.append()
        stage.disk.verdicts[LOG] = [True] * 3
        with pytest.raises(StoreUnavailableError):
            await stage.append()
        stage.deeds.all.pop()
        stage.seq -= 1
        stage.disk.verdicts.clear()
        store: Any = stage.bench.store
        async with asyncio.timeout(60):
            while not mended(store._writer):  # by itself
                await asyncio.sleep(0.01)
        with monkeypatch.context() as killed:  # nobody tidies up
            killed.setattr(writer, "_close", closes)
            reader.execute("COMMIT")
            await store.close()
            reader.close()
        await stage.open()
        for _ in range(6):
            await stage.append()

    stage = played(tmp_path, play)
    assert after_the_failure(stage.deeds, tmp_path / "image", every=2) > 100
