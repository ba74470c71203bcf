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

import program
import pytest
from world import PROGRAM, SOAK, World, bodies_begun, check_books, logged, results, seeded

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
    """At random moments, up to some random kilobytes; at times the worker is killed then."""
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
                if len(handles) < 2 or (await handles[-1].status()).final:
                    handles.append(await client.start(program.hoard(12, 60), id=f"hoard{len(handles)}"))
                await asyncio.sleep(chance.uniform(0.0, 0.2))
                said = worker.log.read_text().count("disk is full")
                fill(ballast, leaving=chance.randrange(0, 60) * 1024)
                try:
                    await logged(worker, "disk is full", times=said + 1, patience=3.0)
                except TimeoutError:  # what it wrote found room in what the log had before
                    ballast.unlink()
                    continue
                full += 1
                if chance.random() < 0.3:
                    worker.kill()
                    killed += 1
                    ballast.unlink()
                    worker = world.start_worker()
                    worker.wait_ready()
                else:
                    ballast.unlink()
                await results(handles[:-1])
            assert await results(handles) == [12 * 60 * 1024] * len(handles)
            findings = await check_books(world, client)
            figure(f"{full} times no room on the disk, {killed} times the worker was killed then; {findings}")
            tally("full disks", full)

    asyncio.run(scenario())


def fill(ballast: Path, leaving: int = 0) -> None:
    """Take all the room there is, but for some bytes."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
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
