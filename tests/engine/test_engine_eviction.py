"""Runs that wait leave memory without a trace in their history, and come back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_kit import Place, crash, history, of_kind, recorded, run, says, until

import perdure
from perdure import Engine, events, step, workflow

LOUD: list[str] = []
MARGIN = "perdure.runtime.residency.EVICT_MARGIN"


@pytest.fixture(autouse=True)
def evict_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also runs that are due within a second."""
    monkeypatch.setattr(MARGIN, 0.0)
    LOUD.clear()


def resident(engine: Engine) -> int:
    assert engine._worker is not None
    return len(engine._worker.drivers)


@step
async def counts(n: int) -> int:
    return n + 1


@workflow
async def sleeps_and_goes_on(pauses: list[float]) -> int:
    n = 0
    for pause in pauses:
        n = await counts(n)
        await asyncio.sleep(pause)
    return await counts(n)


def test_runs_that_only_wait_leave_memory_and_complete_in_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handles = await engine.start_many(_calls(30))
            await until(lambda: resident(engine) == 0)
            for handle in handles:
                assert await handle.status() in ("waiting", "running", "completed")
            assert [await handle.result() for handle in handles] == [3] * 30
            for handle in handles:
                assert len(await recorded(handle)) == 3

    run(main)


def _calls(n: int) -> list[perdure.Call[int]]:
    return [sleeps_and_goes_on([0.3, 0.3]) for _ in range(n)]


def test_the_number_of_runs_in_memory_is_limited(place: Place) -> None:
    async def main() -> None:
        most = 0
        async with place.engine(max_resident=2) as engine, place.engine(worker=False) as client:
            handles = [await client.start(sleeps_and_goes_on([0.05, 0.05])) for _ in range(30)]

            async def watches() -> None:
                nonlocal most
                while True:
                    most = max(most, resident(engine))
                    await asyncio.sleep(0.001)

            watching = asyncio.ensure_future(watches())
            assert [await handle.result() for handle in handles] == [3] * 30
            watching.cancel()
        assert most <= 2

    run(main)


@workflow
async def waits_with_finally() -> str:
    try:
        await perdure.receive("go")
        return await says("slept")
    finally:
        LOUD.append("finally")
        perdure.log.warning("never heard while leaving")
        await says("cleaned")
        LOUD.append("after finally")


def test_finally_blocks_are_inert_when_a_run_leaves_memory(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(waits_with_finally(), id="a")
            await until(lambda: LOUD == ["finally"])  # it left memory, and got no further
            assert await recorded(handle) == []
            assert not caplog.records
            await handle.send("go", None)
            assert await handle.result() == "slept"
            assert LOUD[1:] == ["finally", "after finally"]
            assert [id.rpartition(".")[2] for id in await recorded(handle)] == ["says#1", "says#2"]

    run(main)


async def numbers() -> AsyncIterator[int]:
    try:
        for n in range(3):
            await asyncio.sleep(0.1)
            yield n
    finally:
        await says("generator closed")


@workflow
async def holds_much() -> list[Any]:
    """State of many kinds, alive over several evictions."""
    lock, queue, event = asyncio.Lock(), asyncio.Queue[int](), asyncio.Event()
    told: list[Any] = []

    async def consumes() -> None:
        while (item := await queue.get()) >= 0:
            async with lock:
                told.append([item, await counts(item), perdure.random() < 1])
        event.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(consumes())
        async with lock:
            generator = numbers()
            async for n in generator:
                queue.put_nowait(n)
        assert not told
        queue.put_nowait(-1)
        await event.wait()
    async with asyncio.timeout(10):
        await asyncio.sleep(0.1)
    return told


def test_generators_locks_and_queues_come_back_as_they_were(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(holds_much(), id="a")
            evicted = 0
            handed_back = engine._worker.handed_back  # type: ignore[union-attr]

            def counts_evictions(driver: Any) -> None:
                nonlocal evicted
                evicted += 1
                handed_back(driver)

            engine._worker.handed_back = counts_evictions  # type: ignore[union-attr, method-assign]
            told = await handle.result()
            assert told == [[0, 1, True], [1, 2, True], [2, 3, True]]
            assert evicted >= 3
            steps = [id.rpartition(".")[2] for id in await recorded(handle)]
            assert len(steps) == 4

    run(main)


@workflow
async def is_poked() -> str:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return await says("cancelled while out of memory")
    return "never"


def test_mail_brings_a_run_back(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine, place.engine(worker=False) as client:
            handles = [await engine.start(is_poked()) for _ in range(10)]
            await until(lambda: resident(engine) == 0)
            for number, handle in enumerate(handles):
                await (client.get(handle.id) if number % 2 else handle).cancel()
            for handle in handles:
                assert await handle.result() == "cancelled while out of memory"
                assert len(await of_kind(handle, events.CancelRequested)) == 1

    run(main)


@workflow
async def waits_for_child() -> int:
    return await sleeps_and_goes_on([0.1]) + await (await perdure.start(sleeps_and_goes_on([0.1]))).result()


def test_a_childs_end_brings_its_parent_back(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01, max_resident=1) as engine:
            handles = await engine.start_many([waits_for_child() for _ in range(5)])
            assert [await handle.result() for handle in handles] == [4] * 5

    run(main)


def test_a_crash_right_after_eviction_loses_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            await engine.start(sleeps_and_goes_on([0.2]), id="a")
            await until(lambda: resident(engine) == 0)
            await crash(engine)
        async with place.engine() as engine:  # nobody has to be buried for it: the run was handed back
            handle = engine.get("a")
            assert await handle.result() == 2
            kinds = [type(event).__name__ for event in await history(handle)]
            assert [kind for kind in kinds if kind != "TimerStarted"] == [
                "RunStarted",
                "StepCompleted",
                "TimerFired",
                "StepCompleted",
                "RunCompleted",
            ]

    run(main)
