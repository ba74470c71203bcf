"""A worker whose process slept past its lease begins nothing before it knows whether its runs are still its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from engine_kit import Place, Wrapped, bury, run, until

import perdure
from perdure import step, workflow
from perdure.storage.protocol import Store

BODIES: Counter[str] = Counter()
GATE: list[asyncio.Event] = []


@step
async def waits(label: str) -> str:
    BODIES[label] += 1
    await GATE[0].wait()
    return label


@step
async def does(label: str) -> str:
    BODIES[label] += 1
    return label


@step
def does_in_a_thread(label: str) -> str:
    BODIES[label] += 1
    return label


SHAPES: dict[str, Any] = {"async": does, "thread": does_in_a_thread}


@workflow
async def two_steps(shape: str) -> list[str]:
    return [await waits("first"), await SHAPES[shape]("second")]


class Unheard(Wrapped):
    """Heartbeats wait until the test lets them through."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.through = asyncio.Event()
        self.through.set()

    async def heartbeat(self, worker: int, beat: Any) -> bool:
        await self.through.wait()
        return bool(await self.inner.heartbeat(worker, beat))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("buried", [False, True], ids=["still its own", "buried"])
def test_a_worker_that_slept_begins_no_attempt_before_it_was_heard(
    place: Place, shape: str, buried: bool
) -> None:
    async def main() -> None:
        BODIES.clear()
        GATE[:] = [asyncio.Event()]
        slept = 0.0
        store: list[Unheard] = []

        def wrap(inner: Store) -> Unheard:
            store.append(Unheard(inner))
            return store[0]

        engine = place.engine(wrap)
        object.__setattr__(engine._settings, "clock", lambda: time.time() + slept)
        async with engine:
            handle = await engine.start(two_steps(shape), id="a")
            await until(lambda: BODIES["first"] == 1)
            store[0].through.clear()
            slept = perdure.Engine("memory:")._settings.lease + 1.0
            if buried:
                await bury(place)
            GATE[0].set()
            for _ in range(20):  # turns of the event loop in which the next attempt would begin
                await asyncio.sleep(0.005)
            assert BODIES["second"] == 0
            assert engine._worker is not None
            engine._worker._fleet._announced = 0  # it has news, so it needn't wait for a third of its lease
            store[0].through.set()
            assert await handle.result() == ["first", "second"]
            assert BODIES["second"] == 1

    run(main)
