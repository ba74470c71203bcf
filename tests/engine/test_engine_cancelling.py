"""Cancelling a run: wherever it stands, its code hears of it once and may clean up; what it does then counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_kit import Place, of_kind, reaches, recorded, run, says, sets_clock_ahead, until, works

import perdure
from perdure import Retry, RunCancelled, RunTimedOut, Status, events, step, workflow

SEEN: list[str] = []


@step
async def hangs(name: str) -> str:
    SEEN.append(f"{name} began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        SEEN.append(f"{name} cancelled")
        raise
    return name


@step
def hangs_in_a_thread(name: str) -> str:
    SEEN.append(f"{name} began")
    deadline = time.monotonic() + 60
    while not perdure.step_info().cancelled and time.monotonic() < deadline:
        time.sleep(0.005)
    SEEN.append(f"{name} cancelled" if perdure.step_info().cancelled else f"{name} never heard")
    return name


@step(retry=Retry(initial=60.0))
async def fails() -> None:
    SEEN.append("fails began")
    raise OSError("again")


@workflow
async def child(name: str) -> str:
    return await hangs(name)


async def in_shield() -> None:
    inner = asyncio.ensure_future(hangs("shielded"))
    try:
        await asyncio.shield(inner)
    except asyncio.CancelledError:
        inner.cancel()
        raise


PLACES: dict[str, Callable[[], Awaitable[Any]]] = {
    "async step": lambda: hangs("async"),
    "sync step": lambda: hangs_in_a_thread("sync"),
    "retry wait": lambda: fails(),
    "sleep": lambda: asyncio.sleep(60),
    "gather": lambda: asyncio.gather(hangs("one"), hangs_in_a_thread("two"), asyncio.sleep(60)),
    "child": lambda: child("child"),
    "shield": in_shield,
    "event": lambda: asyncio.Event().wait(),
}
BEGAN = {"async step": 1, "sync step": 1, "retry wait": 1, "gather": 2, "child": 1, "shield": 1}


@workflow
async def stands(where: str, swallows: bool = False) -> str:
    """Stands somewhere; cleans up by a step, a timer and another step."""
    try:
        await PLACES[where]()
    except asyncio.CancelledError:
        if swallows:
            return await says("swallowed")
        raise
    finally:
        await says("cleans")
        await asyncio.sleep(0.01)
        await says("cleaned")
    return "never"


@pytest.mark.parametrize("where", sorted(PLACES))
def test_a_cancelled_run_cleans_up_and_ends_cancelled(place: Place, where: str) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            handle = await engine.start(stands(where), id="a")
            began = BEGAN.get(where, 0)
            await until(lambda: len([entry for entry in SEEN if entry.endswith("began")]) == began)
            if not began:
                await asyncio.sleep(0.02)
            await handle.cancel("no need")
            await handle.cancel("a second one changes nothing")
            with pytest.raises(RunCancelled, match="'a' was cancelled: no need"):
                await handle.result()
            assert await handle.status() == Status.CANCELLED
            assert [id.rpartition(".")[2] for id in await recorded(handle)] == ["says#1", "says#2"]
            told = [entry for entry in SEEN if entry.endswith("began")]
            if where != "retry wait":
                await until(lambda: {e.replace("began", "cancelled") for e in told} <= set(SEEN))
            if where == "child":
                inner = [item async for item in engine.runs(workflow="child")]
                await reaches(engine.get(inner[0].id), "cancelled")
            assert engine._worker is not None
            assert not engine._worker.steps.executing
            await works(engine)

    run(main)


@pytest.mark.parametrize("where", ["async step", "sleep", "gather", "child"])
def test_a_run_that_swallows_its_cancellation_completes(place: Place, where: str) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            handle = await engine.start(stands(where, swallows=True), id="a")
            began = BEGAN.get(where, 0)
            await until(lambda: len([entry for entry in SEEN if entry.endswith("began")]) == began)
            await handle.cancel()
            assert await handle.result() == "swallowed"
            assert await handle.status() == Status.COMPLETED
            await handle.cancel()  # of an ended run: nothing
            assert await handle.status() == Status.COMPLETED
        async with place.engine() as engine:
            assert await engine.run(stands(where, swallows=True), id="a") == "swallowed"

    run(main)


@workflow
async def notices_when() -> str:
    SEEN.append("body began")
    try:
        await hangs("first")
    except asyncio.CancelledError:
        SEEN.append("cancelled at the first await")
        raise
    return "never"


def test_a_run_cancelled_before_its_first_activation_is_cancelled_at_its_first_await(place: Place) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine(worker=False) as client:
            handle = await client.start(notices_when(), id="a")
            await handle.cancel("changed my mind")
            async with place.engine():
                with pytest.raises(RunCancelled, match="changed my mind"):
                    await handle.result()
        assert SEEN == ["body began", "cancelled at the first await"]

    run(main)


def test_a_terminated_run_runs_no_more_code(place: Place) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            handle = await engine.start(stands("gather"), id="a")
            await until(lambda: len([entry for entry in SEEN if entry.endswith("began")]) == 2)
            await handle.terminate("enough")
            with pytest.raises(perdure.RunTerminated, match="enough"):
                await handle.result()
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            assert await recorded(handle) == []
            assert await handle.status() == Status.TERMINATED
            await until(lambda: "one cancelled" in SEEN and "two cancelled" in SEEN)
            await handle.cancel()
            assert await handle.status() == Status.TERMINATED
            await works(engine)

    run(main)


def test_a_run_waiting_to_start_can_be_cancelled_and_terminated(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            first = await engine.start(stands("sleep"), id="a", delay=60)
            second = await engine.start(stands("sleep"), id="b", delay=60)
            await first.cancel("early")
            await second.terminate("early")
            with pytest.raises(RunCancelled):
                await first.result()
            with pytest.raises(perdure.RunTerminated):
                await second.result()

    run(main)


@workflow
async def overruns(how: str) -> str:
    try:
        await hangs("overrun")
    except asyncio.CancelledError:
        if how == "swallows":
            return "all the same"
        if how == "raises":
            raise ValueError("from cleaning") from None
        raise
    finally:
        await says("cleaned")
    return "never"


@pytest.mark.parametrize("how", ["lets go", "swallows", "raises"])
def test_a_run_past_its_timeout_cleans_up_and_fails(place: Place, how: str) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            handle = await engine.start(overruns(how), id="a", timeout=0.05)
            with pytest.raises(RunTimedOut, match=r"'a'.*its timeout was over") as info:
                await handle.result()
            assert isinstance(info.value, perdure.RunFailed)
            assert await handle.status() == Status.FAILED
            assert len(await recorded(handle)) == 1
            assert len(await of_kind(handle, events.DeadlinePassed)) == 1
            assert SEEN == ["overrun began", "overrun cancelled"]

    run(main)


def test_the_time_for_cleaning_is_limited(place: Place) -> None:
    @workflow(name="cancelling.never_ends")
    async def never_ends() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(never_ends(), id="a", timeout=0.05)
            with pytest.raises(RunTimedOut):
                await handle.result()
            assert not engine._worker.drivers  # type: ignore[union-attr]
            await works(engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.runtime.timelimit.CLEANUP_SECONDS", 0.1)
        run(main)


def test_a_timeout_counts_over_restarts_and_while_no_worker_is_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(overruns("lets go"), id="a", timeout=0.05)
            await asyncio.sleep(0.1)
            async with place.engine():
                with pytest.raises(RunTimedOut):
                    await handle.result()
            assert len(await recorded(handle)) == 1

    run(main)


def test_a_timeout_that_passed_before_a_long_replay_waits_for_its_end(memory: Place) -> None:
    @workflow(name="cancelling.long")
    async def long(n: int) -> None:
        for _ in range(n):
            await says("x")
        await asyncio.sleep(1000)

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(long(3000), id="a", timeout=60)
            driver = next(iter(engine._worker.drivers.values()))  # type: ignore[union-attr]
            await until(lambda: driver.seq > 3000)
        engine = memory.engine()
        sets_clock_ahead(engine, 100)
        async with engine:
            handle = engine.get("a")
            with pytest.raises(RunTimedOut):
                await handle.result()
            assert len(await recorded(handle)) == 3000
            kinds = [type(event).__name__ async for event in handle.history()]
            assert kinds[-3:] == ["DeadlinePassed", "OperationDropped", "RunFailed"]

    run(main)
