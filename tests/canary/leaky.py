"""Not a test of the suite: test_canary_plugin.py runs it, to see that the search after each test finds a leak."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import perdure


@perdure.step
async def leaks() -> str:
    return os.environ["PERDURE_TEST_CANARY"]


@perdure.step
async def is_silent() -> str:
    return "nothing"


@perdure.workflow
async def planted(silent: bool) -> str:
    return await (is_silent() if silent else leaks())


def test_a_leak(tmp_path: Path) -> None:
    asyncio.run(drive(tmp_path, silent=False))


def test_none(tmp_path: Path) -> None:
    asyncio.run(drive(tmp_path, silent=True))


async def drive(folder: Path, *, silent: bool) -> None:
    async with perdure.Engine(f"sqlite:///{folder}/leaky.db") as engine:
        await engine.run(planted(silent), id="r")
