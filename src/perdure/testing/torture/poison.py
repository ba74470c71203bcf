"""Runs that take their workers down, among healthy ones: they must be set aside with the reason, nobody else.

A supervisor keeps the workers going, as that of a real machine does. No blows come meanwhile: whoever dies now dies
of a run.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from perdure import Engine, Handle
from perdure.core.status import Status
from perdure.errors import StoreError
from perdure.testing.torture.fleet import Fleet
from perdure.testing.torture.load import Load
from perdure.testing.torture.workshop import deadly

KINDS: Final = ("exits", "crashes", "spins")
DEATHS: Final = 3  #: max_recoveries
_PATIENCE: Final = 240.0
_HEALTHY_FOR: Final = 3.0  # seconds in which healthy runs are started


@dataclass
class Poisoning:
    """What came of it.

    Attributes:
        parked: deadly runs that were set aside with a reason.
        deaths: workers that they took down.
        healthy: other runs that ended with the right result meanwhile.
        wrong: what is the matter with any of them.
    """

    deadly: int = 0
    parked: int = 0
    deaths: int = 0
    healthy: int = 0
    wrong: list[str] = field(default_factory=list[str])


async def poison(
    engine: Engine, url: str, folder: Path, workers: int, chance: random.Random, seed: int
) -> Poisoning:
    """Start deadly runs among healthy ones, and wait until all have ended or are set aside."""
    found = Poisoning(deadly=len(KINDS))
    load = Load(engine, seed, name="healthy")
    async with Fleet(url, folder, workers, chance, name="poisoned", max_recoveries=DEATHS) as fleet:
        handles = [
            await engine.start(deadly(kind, f"{seed}-{kind}"), id=f"deadly-{seed}-{kind}") for kind in KINDS
        ]
        until = time.monotonic() + _PATIENCE
        healthy = asyncio.create_task(load.keep_up(time.monotonic() + _HEALTHY_FOR))
        while time.monotonic() < until:
            await fleet.supervise(engine)
            parked = await _parked(handles)
            if healthy.done() and len(parked) == len(handles):
                break
            await asyncio.sleep(0.1)
        await healthy
        found.deaths, found.wrong = (
            fleet.died_of_runs,
            [*load.wrong, *(f"stuck: {one}" for one in load.stuck)],
        )
    found.healthy = load.completed
    for handle in handles:
        info = await handle.info()
        if info.status is Status.BLOCKED and "died" in (info.reason or ""):
            found.parked += 1
        else:
            found.wrong.append(f"{handle.id} kills its workers, and is {info.status} ({info.reason})")
    async for run in engine.runs(status=Status.BLOCKED, limit=None):
        if run.id not in {handle.id for handle in handles}:
            found.wrong.append(f"{run.id} is blocked, and did nothing: {run.reason}")
    return found


async def _parked(handles: list[Handle[None]]) -> list[str]:
    try:
        return [handle.id for handle in handles if await handle.status() is Status.BLOCKED]
    except StoreError:
        return []
