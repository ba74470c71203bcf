"""One run kills its worker again and again: the others that were there must not be held for the guilty ones.

A worker's death takes down all runs it drives. These tests play a killer: as soon as a certain body begins, the engine
crashes, before anything is recorded. The killer must be blocked, and nobody else, however often they died with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_kit import Place, bury, crash, reaches, run, until, works

from perdure import Engine, Handle, step, workflow
from perdure.core import suspicion

BODIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}


@step
async def does(label: str) -> str:
    BODIES[f"done {label}"] += 1
    return label


@step
async def waits_at(gate: str) -> str:
    BODIES[gate] += 1
    await GATES[gate].wait()
    return gate


@step
async def kills(name: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    BODIES[f"killed by {name}"] += 1
    await asyncio.Event().wait()  # its worker dies here


@workflow(name="suspicion.killer")
async def killer(name: str, seconds: float = 0.0) -> None:
    await kills(name, seconds)


@workflow(name="suspicion.slow")
async def slow(name: str) -> str:
    """It is at work in its one step whenever its worker dies."""
    return await waits_at(name)


@workflow(name="suspicion.sleeper")
async def sleeper() -> str:
    await asyncio.sleep(3600)
    return "slept"


@workflow(name="suspicion.quick")
async def quick(number: int) -> int:
    for index in range(3):
        await does(f"{number}.{index}")
    return number


@pytest.fixture(autouse=True)
def nothing_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.runtime.residency.NOTE_AFTER", 1000.0)
    BODIES.clear()


@asynccontextmanager
async def life(place: Place, deaths: int = 3, **options: Any) -> AsyncGenerator[Engine]:
    """A worker's life, ended by a crash that is noticed."""
    engine = place.engine(max_recoveries=deaths, **options)
    async with engine:
        yield engine
        await crash(engine)
    await bury(place, max_recoveries=deaths)


def killed() -> int:
    return sum(times for name, times in BODIES.items() if name.startswith("killed by"))


async def live_until_blocked(place: Place, client: Engine, *killers: Handle[None]) -> int:
    """One worker after the other, each killed by whoever does; returns how many."""
    lives = 0
    while not all([await handle.status() == "blocked" for handle in killers]):
        lives += 1
        assert lives < 60, "the killers aren't found"
        before = killed()
        async with life(place):
            await until(lambda before=before: killed() > before)
    return lives


def test_the_innocent_are_told_from_the_guilty(place: Place) -> None:
    """Innocent runs in long steps, and others that sleep, die with a killer from the first time on."""

    async def main() -> None:
        GATES.update({f"g{number}": asyncio.Event() for number in range(4)})
        async with place.engine(worker=False) as client:
            innocent = [await client.start(slow(f"g{number}"), id=f"slow{number}") for number in range(4)]
            asleep = await client.start(sleeper(), id="asleep")
            guilty = await client.start(killer("k"), id="guilty")
            lives = await live_until_blocked(place, client, guilty)
            info = await guilty.info()
            assert info.recoveries >= 4
            assert "with nothing else in its hands" in (info.reason or "")
            assert lives < 20
            for gate in GATES.values():
                gate.set()
            async with place.engine(max_recoveries=3):
                assert [await handle.result() for handle in innocent] == [f"g{number}" for number in range(4)]
                assert await asleep.status() in ("running", "waiting")
                assert await guilty.status() == "blocked"

    run(main)


def test_several_killers_are_found_and_the_work_is_done(place: Place) -> None:
    """Two that kill, one of them late; new runs come all the time."""

    async def main() -> None:
        async with place.engine(worker=False) as client:
            guilty = [
                await client.start(killer("fast"), id="fast"),
                await client.start(killer("late", 0.4), id="late"),
            ]
            done = [await client.start(quick(number), id=f"q{number}") for number in range(20)]
            await live_until_blocked(place, client, *guilty)
            async with place.engine(max_recoveries=3):
                assert [await handle.result() for handle in done] == list(range(20))

    run(main)


def test_what_is_tried_is_tried_alone(place: Place) -> None:
    """Other runs that are due wait until the trial is over; those started here, too."""

    async def main() -> None:
        GATES["g"] = asyncio.Event()
        async with place.engine(worker=False) as client:
            suspect = await client.start(slow("g"), id="suspect")
            for times in range(1, 7):
                async with life(place, deaths=99):
                    await until(lambda times=times: BODIES["g"] == times)
            other = await client.start(quick(1), id="other")
            async with place.engine(max_recoveries=99) as engine:
                await until(lambda: BODIES["g"] == 7)
                started = await engine.start(quick(2), id="here")
                await asyncio.sleep(0.2)
                assert (await other.status(), await started.status()) == ("queued", "queued")
                (cause,) = (await other.why()).causes
                assert cause.kind == "worker"
                GATES["g"].set()
                assert await suspect.result() == "g"
                assert [await other.result(), await started.result()] == [1, 2]

    run(main)


def test_a_long_innocent_step_lets_others_begin_after_a_while(place: Place) -> None:
    async def main() -> None:
        GATES["g"] = asyncio.Event()
        async with place.engine(worker=False) as client:
            suspect = await client.start(slow("g"), id="suspect")
            for times in (1, 2, 3):
                async with life(place, deaths=99):
                    await until(lambda times=times: BODIES["g"] == times)
            assert suspicion.window(3) < 1
            other = await client.start(quick(1), id="other")
            async with place.engine(max_recoveries=99):
                assert await other.result(timeout=30) == 1
                assert await suspect.status() == "running"
                GATES["g"].set()
                assert await suspect.result() == "g"

    run(main)


def test_a_suspect_that_only_waits_leaves_memory_and_is_cleared(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            asleep = await client.start(sleeper(), id="asleep")
            for _ in range(2):
                async with life(place, deaths=99) as engine:
                    await until(lambda engine=engine: len(engine._worker.drivers) == 1)
            assert (await asleep.info()).recoveries == 2
            async with place.engine() as engine:
                await works(engine)
                await reaches(asleep, "waiting")
                await until(lambda: not engine._worker.drivers)
                assert (await asleep.info()).recoveries == 0

    run(main)


def test_a_busy_worker_takes_a_suspect_when_nobody_else_did(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.runtime.trials.PATIENCE", 1.0)

    async def main() -> None:
        GATES.update(g=asyncio.Event(), busy=asyncio.Event())
        async with place.engine(worker=False) as client:
            suspect = await client.start(slow("g"), id="suspect", queue="other")
            for times in (1, 2):
                async with life(place, deaths=99, queues=["other"]):
                    await until(lambda times=times: BODIES["g"] == times)
                    since = time.time()
            await client.queues.pause("other")
            async with place.engine(queues=["default", "other"]) as engine:
                busy = await engine.start(slow("busy"))
                await until(lambda: BODIES["busy"] == 1)
                await client.queues.resume("other")
                await until(lambda: BODIES["g"] == 3)
                assert time.time() - since >= 1.0
                for gate in GATES.values():
                    gate.set()
                assert [await suspect.result(), await busy.result()] == ["g", "busy"]

    run(main)
