"""What the tests of steps in processes share: workflows around those steps, and a look at processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import process_kit as kit
from engine_kit import Place, until

import perdure
from perdure import Engine, workflow
from perdure.errors import StepProcessDied


@workflow
async def one(name: str, args: list[Any]) -> Any:
    return await getattr(kit, name)(*args)


@workflow
async def grows(x: int, y: int) -> list[int]:
    point = await kit.doubles(kit.Point(x, y), by=3)
    assert isinstance(point, kit.Point)
    return [point.x, point.y]


@workflow
async def many(count: int) -> list[int]:
    return list(await asyncio.gather(*(kit.tells() for _ in range(count))))


@workflow
async def catches(number: int) -> list[Any]:
    try:
        await kit.declines(number)
    except kit.Declined as error:
        failure = perdure.failure(error)
        assert failure is not None
        return [*error.args, repr(error.__cause__), failure.attempts, "process_kit.py" in failure.traceback]
    return []


@workflow
async def tells_of_death(code: int) -> list[Any]:
    try:
        await kit.exits(code)
    except StepProcessDied as error:
        return [error.exit_code, error.signal]
    return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pid_in(folder: Path) -> int:
    await until((folder / "pid").exists)
    return int((folder / "pid").read_text())


def pool(engine: Engine) -> Any:
    assert engine._worker is not None
    calls: Any = engine._worker.steps.calls._process_calls
    return calls._processes


async def result_of(place: Place, name: str, *args: Any, **options: Any) -> Any:
    async with place.engine(**options) as engine:
        return await engine.run(one(name, list(args)), id="a")
