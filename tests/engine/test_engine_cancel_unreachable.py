"""Cancelling runs whose code can't hear of it: queued without a worker, blocked; nobody hangs, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from cancel_kit import SEEN, came, does, ends, fresh, hangs, see
from engine_kit import Place, history, of_kind, reaches, redefine, run, until

import perdure
from perdure import RunCancelled, RunTerminated, Status, events, workflow


@pytest.fixture(autouse=True)
def _look_often() -> Iterator[None]:
    fresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.runtime.fleet.LOOK_EVERY", 0.01)
        yield


@workflow
async def far_child(label: str) -> str:
    SEEN.append("child began")
    return await does(label)


@workflow
async def waits_for_far_child(how: str) -> str:
    child = await perdure.start(far_child("x"), id="child", queue="nobody")
    await does("started")
    try:
        if how == "cancels it":
            await child.cancel()
        return await child.result()
    except perdure.RunError as error:
        see(str(error))
        return type(error).__name__


@pytest.mark.parametrize("stranded_first", [True, False])
def test_a_child_that_nobody_can_begin_ends_when_it_is_cancelled(place: Place, stranded_first: bool) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for_far_child("waits"), id="a")
            await until(lambda: came("started began"))
            if stranded_first:
                await reaches(engine.get("child"), "blocked")
            await engine.get("child").cancel("no need")
            assert await handle.result() == "RunCancelled"
            with pytest.raises(RunCancelled, match="no need"):
                await engine.get("child").result()
            kinds = [type(event) for event in await history(engine.get("child"))]
            assert kinds == [events.RunStarted, events.RunCancelled]
            assert (await engine.get("child").info()).reason == "no need"
            assert not came("child began")

    run(main)


def test_a_parent_that_cancels_such_a_child_gets_its_end(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(waits_for_far_child("cancels it"), id="a") == "RunCancelled"
            assert await engine.get("child").status() == Status.CANCELLED

    run(main)


def test_such_a_child_is_cancelled_with_its_parent(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for_far_child("waits"), id="a")
            await until(lambda: came("started began"))
            await handle.cancel("enough")
            assert await ends(handle) == "RunCancelled: enough"
            await reaches(engine.get("child"), "cancelled")

    run(main)


def test_such_a_run_can_be_terminated_with_compensation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(far_child("x"), id="a", queue="nobody")
            await handle.cancel("first")
            await handle.terminate("enough", compensate=True)
            with pytest.raises(RunTerminated):
                await handle.result()

    run(main)


def test_a_queued_run_keeps_its_cancellation_until_a_worker_comes(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(far_child("x"), id="a", queue="later")
            await handle.cancel("enough")
            assert await handle.status() == Status.QUEUED
            async with place.engine(queues=["later"]):
                assert await ends(handle) == "RunCancelled: enough"
                assert SEEN == ["child began"]

    run(main)


def test_a_run_that_has_begun_keeps_its_cancellation_while_nobody_has_its_code(place: Place) -> None:
    """It may have something to clean up; terminate() is for those who don't want to wait."""

    async def before() -> None:
        await does("old")
        await hangs("old")

    async def after() -> None:
        await does("new")

    async def main() -> None:
        redefine("unreachable.changing", before)
        async with place.engine() as engine:
            handle = await engine.start(perdure_call("unreachable.changing"), id="a")
            await until(lambda: came("old began"))
        redefine("unreachable.changing", after)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason
            assert reason is not None
            await handle.cancel("enough")
            info = await handle.info()
            assert info.status == Status.BLOCKED
            assert info.reason is not None
            assert info.reason.startswith(reason)
            assert "asked to cancel (enough)" in info.reason
            assert "terminate it" in info.reason
        redefine("unreachable.changing", before)
        async with place.engine() as engine:
            assert await ends(engine.get("a")) == "RunCancelled: enough"
            assert len(await of_kind(engine.get("a"), events.CancelRequested)) == 1

    run(main)


def perdure_call(name: str) -> perdure.Call[None]:
    from perdure.api.durable import Workflow
    from perdure.runtime.definitions import workflow_named

    definition = workflow_named(name)
    assert definition is not None
    return Workflow[[], None](definition)()


def test_a_blocked_run_can_be_terminated(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(far_child("x"), id="a", queue="nobody")
            await reaches(handle, "blocked")
            await handle.terminate("enough")
            with pytest.raises(RunTerminated, match="enough"):
                await asyncio.wait_for(handle.result(), 60)

    run(main)


def test_a_paused_run_that_is_cancelled_goes_on(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sleeps_and_cleans(), id="a")
            await until(lambda: came("x began"))
            await handle.pause("wait a moment")
            await reaches(handle, "paused")
            await handle.cancel("enough")
            assert await ends(handle) == "RunCancelled: enough"
            assert came("cleans began")

    run(main)


@workflow
async def sleeps_and_cleans() -> None:
    await does("x")
    try:
        await asyncio.sleep(3600)
    finally:
        await does("cleans")
