"""Losses of power, simulated: an engine drives random programs on a recorded disk, and images of it are looked at."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, Final

from perdure import Engine
from perdure.storage.sqlite import SqliteStore
from perdure.testing.deeds import DATABASE, Broken, Deeds, Lost, Witness, check, look, moment
from perdure.testing.disk import RecordingDisk
from perdure.testing.powerloss import Directories, images, put
from perdure.testing.torture.programs import Drawing, expected, messages, value_of
from perdure.testing.torture.workshop import BOOKS, runs

_PROGRAMS: Final = 8  #: of one recording
_IMAGES: Final = 200


def cut_power(folder: Path, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Try images until time is up, those of one recording at least.

    Returns how many were tried, and what was wrong.
    """
    until = time.monotonic() + seconds
    tried = 0
    wrong: list[str] = []
    for number in range(1_000_000):
        disk = folder / "disk"
        disk.mkdir()
        os.environ[BOOKS] = str(folder / "books-of-the-disk.jsonl")
        deeds = asyncio.run(_record(disk, f"{seed}/{number}"))
        directories = list(Directories)[number % 2]
        for operations, image in images(deeds.disk.log, _IMAGES, seed + number, directories):
            put(image, folder / "image")
            tried += 1
            try:
                check(look(folder / "image"), deeds.all, moment(deeds.disk.log, operations), inbox=False)
            except (Lost, Broken) as fault:
                wrong.append(f"power cut after operation {operations} of recording {number}: {fault}")
        shutil.rmtree(disk)
        if time.monotonic() >= until:
            break
    return tried, wrong


async def _record(folder: Path, seed: str) -> Deeds:
    """Let an engine do some programs on a new database there."""
    disk = RecordingDisk(folder)
    deeds = Deeds(disk)
    engine = Engine(f"sqlite:///{folder / DATABASE}")
    witness: Any = Witness(SqliteStore(folder / DATABASE, vfs=disk.name), deeds)
    engine._store = witness
    chance = random.Random(seed)  # noqa: S311 - a seed must bring the same programs
    async with engine:
        disk.mark("opened")
        programs = [Drawing(chance, f"{seed}-{number}").program() for number in range(_PROGRAMS)]
        handles = await engine.start_many([runs(program, 0) for program in programs])
        for program, handle in zip(programs, handles, strict=True):
            for tag in messages(program):
                await handle.send(tag, value_of(tag), key=tag)
        for program, handle in zip(programs, handles, strict=True):
            if (result := await handle.result()) != expected(program):
                raise AssertionError(f"on a good disk, {program} resulted in {result}")
    return deeds
