"""Workflows whose traces the acceptance test looks at."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import perdure
from perdure import Retry, step, workflow

FOLDER = Path(os.environ.get("TRACED_FOLDER", "."))


@step
async def look(number: int) -> int:
    return number


@step(retry=Retry(max_attempts=3, initial=0.01))
def stumble() -> int:
    number = perdure.step_info().attempt
    if number < 2:
        raise ValueError(f"attempt {number}")
    return number


@step(queue="others")
async def elsewhere() -> int:
    return os.getpid()


@step
async def wait_for_file() -> int:
    """The worker is killed while this executes, and another one ends it."""
    (FOLDER / f"waits-{os.getpid()}").touch()
    while not (FOLDER / "go").exists():
        await asyncio.sleep(0.02)
    return os.getpid()


@workflow
async def part(number: int) -> int:
    return await look(number) + await stumble()


@workflow
async def journey() -> int:
    for number in range(3):
        await look(number)
    await asyncio.gather(part(1), part(2))
    await elsewhere()
    await wait_for_file()
    perdure.log.info("going on")
    return await look(9)
