"""A full disk, on a real file system of some megabytes: runs wait, say so, and go on when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import program
import pytest
from world import PATIENCE, PROGRAM, SOAK, Process, World, bodies_begun, check_books, logged, results, seeded

import perdure
from perdure import Handle

pytestmark = pytest.mark.acceptance

FILLINGS = 50 if SOAK else 3
SIZE = "384m" if SOAK else "96m"  #: what is recorded stays, and mustn't fill the disk by itself


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_runs_wait_while_the_disk_is_full(world: World, small_disk: Path) -> None:
    world.database = small_disk / "runs.db"

    async def scenario() -> None:
        async with world.client() as client:
            worker = world.start_worker()
            worker.wait_ready()
            ballast = small_disk / "ballast"
            handle = await client.start(program.hoard(30, 100), id="hoard")
            await bodies_begun(world, 4)
            fill(ballast)
            await logged(worker, "disk is full")
            assert not (await handle.status()).final
            recorded = [event async for event in handle.history()]
            ballast.unlink()
            assert await handle.result(timeout=60) == 30 * 100 * 1024
            after = [event async for event in handle.history()]
            assert after[: len(recorded)] == recorded, "what was recorded stays"
            findings = await check_books(world, client)
            assert findings.steps == 30
            assert findings.repeated == 0, "the refused result was kept in memory and offered again"
            assert "takes writes again" in worker.log.read_text()

    asyncio.run(scenario())


def test_a_worker_killed_on_a_full_disk_loses_nothing(world: World, small_disk: Path) -> None:
    world.database = small_disk / "runs.db"

    async def scenario() -> None:
        async with world.client() as client:
            worker = world.start_worker()
            worker.wait_ready()
            ballast = small_disk / "ballast"
            handle = await client.start(program.hoard(30, 100), id="hoard")
            await bodies_begun(world, 4)
            fill(ballast)
            await logged(worker, "disk is full")
            worker.kill()
            ballast.unlink()
            world.start_worker()
            assert await results([handle]) == [30 * 100 * 1024]
            await check_books(world, client)

    asyncio.run(scenario())


def test_a_worker_on_a_full_disk_stops_when_told_and_clients_are_refused(
    world: World, small_disk: Path
) -> None:
    world.database = small_disk / "runs.db"

    async def scenario() -> None:
        async with world.client() as client:
            worker = world.start_worker()
            worker.wait_ready()
            ballast = small_disk / "ballast"
            handle = await client.start(program.hoard(30, 100), id="hoard")
            await bodies_begun(world, 4)
            fill(ballast)
            await logged(worker, "disk is full")
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
            with pytest.raises(perdure.StoreError, match="disk is full"):
                await client.start(program.echo("x" * 1_000_000), id="refused")
            ballast.unlink()
            with pytest.raises(perdure.UnknownRunError):
                await client.get("refused").status()
            world.start_worker()
            assert await results([handle]) == [30 * 100 * 1024]
            await check_books(world, client)

    asyncio.run(scenario())


def test_the_disk_fills_up_again_and_again(
    world: World, small_disk: Path, figure: Callable[[str], None], tally: Callable[[str, int], None]
) -> None:
    """At random moments, up to some random kilobytes; at times the worker is killed then.

    SQLite's log is used over and over, and what fits into it as it is needs no room. So mostly it is emptied before;
    else the disk is full when the log grows beyond what it ever was, or when a checkpoint lets the database file grow.
    """
    chance = seeded()
    world.database = small_disk / "runs.db"

    async def scenario() -> None:
        async with world.client() as client:
            ballast = small_disk / "ballast"
            worker = world.start_worker()
            worker.wait_ready()
            full = killed = 0
            handles: list[Handle[int]] = []
            while full < FILLINGS:
                if not handles or (await handles[-1].status()).final:
                    handles.append(await client.start(program.hoard(12, 200), id=f"hoard{len(handles)}"))
                await asyncio.sleep(chance.uniform(0.0, 0.2))
                said = worker.log.read_text().count("disk is full")
                if chance.random() < 0.8:
                    empty_log(world.database)
                fill(ballast, leaving=chance.randrange(0, 500) * 1024)
                found = await finds_it_full(worker, said, handles[-1])
                dies = found and chance.random() < 0.3
                if dies:
                    worker.kill()
                ballast.unlink()
                if dies:
                    worker = world.start_worker()
                    worker.wait_ready()
                full += found
                killed += dies
            assert await results(handles) == [12 * 200 * 1024] * len(handles)
            findings = await check_books(world, client)
            figure(f"{full} times no room on the disk, {killed} times the worker was killed then; {findings}")
            tally("full disks", full)

    asyncio.run(scenario())


async def finds_it_full(worker: Process, said: int, handle: Handle[int]) -> bool:
    """Whether the worker says once more that the disk is full; else its run has ended, as all had room."""
    async with asyncio.timeout(PATIENCE):
        while worker.log.read_text().count("disk is full") == said:
            if (await handle.status()).final:
                return False
            await asyncio.sleep(0.02)
        return True


def empty_log(database: Path) -> None:
    """Let SQLite's log have no room of its own, if nobody reads just then."""
    connection: Any = apsw.Connection(str(database))
    try:
        connection.set_busy_timeout(1000)
        connection.pragma("user_version")  # a connection that has read nothing yet doesn't know of the log
        with contextlib.suppress(apsw.BusyError):
            connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()


def fill(ballast: Path, leaving: int = 0) -> None:
    """Take all the room there is, but for some bytes."""
    with ballast.open("wb", buffering=0) as file:
        for portion in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"x" * portion) == portion:
                    pass
    if leaving:
        os.truncate(ballast, max(0, ballast.stat().st_size - leaving))


def test_runs_wait_while_files_may_not_grow(world: World, figure: Callable[[str], None]) -> None:
    """RLIMIT_FSIZE: what operating systems and containers limit. It is raised while the worker goes on."""
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("there is no prlimit here")

    async def scenario() -> None:
        async with world.client() as client:
            await client.start(program.echo("the file is made"), id="first")
            limit = 2_000_000
            command = [prlimit, f"--fsize={limit}:unlimited", sys.executable, str(PROGRAM), world.url]
            worker = world.start(*command)
            worker.wait_ready()
            handle = await client.start(program.hoard(60, 100), id="hoard")
            await logged(worker, "takes no writes")
            recorded = [event async for event in handle.history()]
            assert max(path.stat().st_size for path in world.folder.glob("runs.db*")) <= limit
            await asyncio.sleep(3.0)
            assert not (await handle.status()).final
            assert worker.log.read_text().count("\n") < 50, "it doesn't try again all the time"
            subprocess.run([prlimit, f"--pid={worker.pid}", "--fsize=unlimited:unlimited"], check=True)
            assert await handle.result(timeout=60) == 60 * 100 * 1024
            after = [event async for event in handle.history()]
            assert after[: len(recorded)] == recorded, "what was recorded stays"
            findings = await check_books(world, client)
            assert findings.repeated == 0
            figure(f"at a limit of {limit:,} bytes a file, and on when it was raised; {findings}")

    asyncio.run(scenario())
