"""A full disk, on a real file system of some megabytes: runs wait, say so, and go on when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import program
import pytest
from world import World, bodies_begun, check_books, logged, results

import perdure

pytestmark = pytest.mark.acceptance


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)],
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


def fill(ballast: Path) -> None:
    """Take all the room there is."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
