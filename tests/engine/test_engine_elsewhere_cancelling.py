"""Giving up a step that was sent to a queue: what has not begun there never begins, the rest is the step's choice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from elsewhere_kit import (
    BODIES,
    RELEASED,
    SEEN,
    begun,
    bury_all_but,
    errand_of,
    fresh,
    gate,
    gated,
    here,
    there,
)
from engine_kit import Place, crash, of_kind, reaches, recorded, run, says, until

import perdure
from perdure import Engine, Handle, RunCancelled, RunTerminated, events, step, workflow


@pytest.fixture(autouse=True)
def fresh_tables() -> Any:
    fresh()
    yield
    RELEASED.set()


@workflow
async def waits_for(policy: str, label: str = "x") -> str:
    try:
        return await gated.with_options(on_cancel=policy)(label)  # type: ignore[arg-type]
    except asyncio.CancelledError:
        await says("cleaned")
        raise


async def is_cancelled(handle: Handle[Any]) -> None:
    with pytest.raises(RunCancelled):
        await handle.result()


async def has_ended(handle: Handle[Any]) -> str:
    await reaches(handle, "completed", "failed", "cancelled", "terminated")
    return await handle.status()


async def never_begins(place: Place, errand: Handle[Any]) -> None:
    """A worker of the queue comes, and finds nothing to do but this."""
    async with there(place) as engine:
        assert await engine.run(follows(), queue="gpu") == "follows"
        assert await has_ended(errand) == "cancelled"
    assert "x" not in BODIES


@workflow
async def follows() -> str:
    return "follows"


@pytest.mark.parametrize("policy", ["try", "wait", "abandon"])
def test_one_that_hasnt_begun_never_begins(place: Place, policy: str) -> None:
    async def main() -> None:
        async with here(place) as engine:
            handle = await engine.start(waits_for(policy), id="a")
            errand = await errand_of(engine, handle)
            await handle.cancel()
            await is_cancelled(handle)
            assert await has_ended(errand) == "cancelled"
            if policy == "wait":
                (failed,) = await of_kind(handle, events.StepFailed)
                assert "before its first attempt began" in failed.failure.message
            else:
                (dropped,) = await of_kind(handle, events.OperationDropped)
                assert dropped.operation == f"{gated.name}#1"
            await never_begins(place, errand)

    run(main)


def test_one_that_executes_is_interrupted(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits_for("try"), id="a")
            await begun("x")
            errand = await errand_of(engine, handle)
            await handle.cancel()
            await is_cancelled(handle)
            assert await has_ended(errand) == "cancelled"
            assert SEEN == ["x interrupted"]
            assert await recorded(handle) == [f"{says.name}#1"]

    run(main)


def test_one_that_executes_is_waited_for(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits_for("wait"), id="a")
            await begun("x")
            await handle.cancel()
            await until_cancel_is_recorded(handle)
            gate("x").set()
            await is_cancelled(handle)
            assert SEEN == ["x ended"]
            assert await recorded(handle) == [f"{gated.name}#1", f"{says.name}#1"]

    run(main)


def test_one_that_executes_is_abandoned(place: Place) -> None:
    """It goes on to its end, though the run has ended."""

    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits_for("abandon"), id="a")
            await begun("x")
            errand = await errand_of(engine, handle)
            await handle.cancel()
            await is_cancelled(handle)
            gate("x").set()
            assert await has_ended(errand) == "completed"
            assert SEEN == ["x ended"]

    run(main)


@workflow
async def abandons_and_goes_on() -> str:
    step = asyncio.create_task(gated.with_options(on_cancel="abandon")("x"))
    await perdure.receive("give it up")
    step.cancel()
    await perdure.receive("go")
    return "done"


def test_the_end_of_an_abandoned_one_is_noted(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(abandons_and_goes_on(), id="a")
            await begun("x")
            await handle.send("give it up", None)

            async def is_given_up() -> bool:
                return bool(await of_kind(handle, events.OperationDropped))

            await until(is_given_up)
            gate("x").set()

            async def is_noted() -> bool:
                return bool(await recorded(handle))

            await until(is_noted)
            await handle.send("go", None)
            assert await handle.result() == "done"

    run(main)


async def until_cancel_is_recorded(handle: Handle[Any]) -> None:
    async def is_recorded() -> bool:
        return bool(await of_kind(handle, events.CancelRequested))

    await until(is_recorded)


@pytest.mark.parametrize("policy", ["try", "wait"])
def test_a_run_that_was_evicted_meanwhile_hears_of_its_cancellation(place: Place, policy: str) -> None:
    async def main() -> None:
        async with here(place, evict_after=0.0) as engine, there(place):
            handle = await engine.start(waits_for(policy), id="a")
            await begun("x")
            assert engine._worker is not None
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            await handle.cancel()
            await until_cancel_is_recorded(handle)
            if policy == "wait":
                gate("x").set()
            await is_cancelled(handle)
            await until(lambda: SEEN == ["x interrupted" if policy == "try" else "x ended"])

    run(main)


@pytest.mark.parametrize("executes", [False, True])
def test_terminating_a_run_ends_its_errands(place: Place, executes: bool) -> None:
    async def main() -> None:
        async with here(place) as engine:
            if executes:
                async with there(place):
                    errand = await terminated(engine, executes)
                    assert await has_ended(errand) == "cancelled"
                    assert SEEN == ["x interrupted"]
            else:
                errand = await terminated(engine, executes)
                await never_begins(place, errand)

    run(main)


async def terminated(engine: Engine, executes: bool) -> Handle[Any]:
    handle = await engine.start(waits_for("try"), id="a")
    errand = await errand_of(engine, handle)
    if executes:
        await begun("x")
    await handle.terminate("enough")
    with pytest.raises(RunTerminated):
        await handle.result()
    return errand


@workflow
async def gives_up_in_time() -> str:
    try:
        async with asyncio.timeout(0.05):
            await gated("x")
    except TimeoutError:
        return await gated("y")
    return "never"


def test_a_time_limit_in_the_code_interrupts_it(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(gives_up_in_time(), id="a")
            await begun("y")
            await until(lambda: "x interrupted" in SEEN or "x" not in BODIES)
            gate("y").set()
            assert await handle.result() == "y"
            assert await recorded(handle) == [f"{gated.name}#2"]

    run(main)


@step
async def fails() -> None:
    raise ValueError("no")


@step(queue="gpu", on_cancel="wait", retry=perdure.Retry(max_attempts=50, initial=0.001))
async def fails_when_let(label: str) -> str:
    BODIES[label] += 1
    await gate(label).wait()
    raise ValueError("no")


@workflow
async def waits_for_a_failure() -> str:
    return await fails_when_let("x")


def test_no_attempt_follows_that_was_not_on_its_way(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits_for_a_failure(), id="a")
            await begun("x")
            await handle.cancel()
            await until_cancel_is_recorded(handle)
            gate("x").set()
            await is_cancelled(handle)
            assert BODIES["x"] == 1
            assert await recorded(handle) == [f"{fails_when_let.name}#1"]

    run(main)


@workflow
async def fails_beside() -> None:
    await asyncio.gather(gated("x"), fails_after_it())


async def fails_after_it() -> None:
    await perdure.receive("go")
    await fails()


def test_a_run_that_ends_takes_its_errands_with_it(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(fails_beside(), id="a")
            await begun("x")
            await handle.send("go", None)
            with pytest.raises(perdure.RunFailed):
                await handle.result()
            assert await has_ended(await errand_of(engine, handle)) == "cancelled"
            assert SEEN == ["x interrupted"]

    run(main)


def test_the_cancelled_step_of_a_lost_worker_isnt_taken_up(place: Place) -> None:
    """It is claimed once more, and hears of its cancellation before it begins."""

    async def main() -> None:
        async with here(place) as engine:
            lost = there(place)
            await lost.__aenter__()
            handle = await engine.start(waits_for("try"), id="a")
            await begun("x")
            errand = await errand_of(engine, handle)
            await crash(lost)
            await handle.cancel()
            await is_cancelled(handle)
            await bury_all_but(engine)
            async with there(place):
                assert await has_ended(errand) == "cancelled"
            assert BODIES["x"] == 1

    run(main)


@workflow
async def is_impatient() -> str:
    try:
        async with asyncio.timeout(0.3):
            await gated("x")
    except TimeoutError:
        return "given up"
    return "waited"


def test_a_run_comes_back_to_give_up_the_step_that_fills_its_worker(place: Place) -> None:
    """A run's step takes no place in memory: else the run, which has made room for it, couldn't come in any more."""

    async def main() -> None:
        async with place.engine(queues=("default", "gpu"), max_resident=1, evict_after=0.0) as engine:
            handle = await engine.start(is_impatient(), id="a")
            await begun("x")
            other = await engine.start(follows(), id="b")
            assert await other.result(timeout=60) == "follows"
            assert await handle.result(timeout=60) == "given up"

    run(main)
