"""A small disk that fills up: workers on a file system of some megabytes, of which at times nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from perdure import Engine
from perdure.testing.torture.audit import Audit
from perdure.testing.torture.fleet import Fleet
from perdure.testing.torture.load import Load
from perdure.testing.torture.workshop import notes

_SIZE: Final = "96m"


@contextlib.contextmanager
def small_disk(folder: Path) -> Generator[Path | None]:
    """A file system of its own there; None if that isn't allowed, or there is none of that kind."""
    disk = folder / "small-disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(  # noqa: S603 - no shell, and a folder of our own
            ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(disk)],  # noqa: S607
            capture_output=True,
            check=False,
        )
    except OSError:
        yield None
        return
    if mounted.returncode != 0:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)  # noqa: S603, S607


async def fill_up(
    folder: Path, disk: Path, seconds: float, chance: random.Random, seed: int
) -> tuple[int, list[str]]:
    """Let workers do random programs there, and take all room again and again.

    Returns how often there was none when somebody wanted to write, and what was wrong.
    """
    url = f"sqlite:///{disk / 'runs.db'}"
    (own := folder / "on-the-small-disk").mkdir()
    ballast = disk / "ballast"
    full = 0
    async with Engine(url, worker=False) as engine:
        load = Load(engine, seed, name="small")
        async with Fleet(url, own, 2, chance, name="cramped") as fleet:
            until = time.monotonic() + seconds
            busy = asyncio.create_task(load.keep_up(until))
            while time.monotonic() < until or full == 0:
                before = fleet.said("disk is full") + load.refused
                _take_all(ballast, leaving=chance.choice((0, 0, 8, 64)) * 1024)
                for _ in range(200):
                    await asyncio.sleep(0.05)
                    if hit := fleet.said("disk is full") + load.refused > before:
                        full += hit
                        break
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                ballast.unlink()
                if time.monotonic() > until + 60.0:
                    break
                await asyncio.sleep(chance.uniform(0.3, 1.0))
            await busy
            fleet.look_after()
        findings = await Audit(notes(fleet.books), fleet.stopped).look(engine)
    stuck = [f"stuck: {one}" for one in load.stuck]
    wrong = [*load.wrong, *stuck, *fleet.deaths, *findings.violations]
    return full, [f"on the small disk: {one}" for one in wrong]


def _take_all(ballast: Path, *, leaving: int) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - leaving))
