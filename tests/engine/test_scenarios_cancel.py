"""What people trip over when they cancel long-lived work, each live, replayed, and with a crash at each append."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from cancel_kit import RESETS, SEEN, Scenario, begins, came, does, ends, fresh, hangs, lives, see, survives
from engine_kit import Ledger, Mortal, Place, bury, crash, history, of_kind, reaches, run, until

import perdure
from perdure import Engine, Handle, Retry, RunFailed, RunTerminated, events, step, workflow

GATES: dict[str, asyncio.Event] = {}
RESETS.append(GATES.clear)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


def gate(label: str) -> asyncio.Event:
    return GATES.setdefault(label, asyncio.Event())


# -- steps and children of these stories --------------------------------------------------------------


@step
async def gated(label: str) -> str:
    begins(label)
    await gate(label).wait()
    return label


@step
async def fails(label: str) -> str:
    begins(label)
    await gate(label).wait()
    raise ValueError(f"{label} failed")


@step(retry=Retry(initial=3600.0))
async def will_be_tried_again(label: str) -> str:
    begins(label)
    raise OSError("not now")


@step
async def ignores_its_cancellation(label: str) -> str:
    begins(label)
    with suppress(asyncio.CancelledError):
        await asyncio.get_running_loop().create_future()
    SEEN.append(f"{label} goes on")
    await asyncio.sleep(0.01)
    return label


@workflow
async def child(label: str) -> str:
    try:
        return await hangs(label)
    finally:
        await does(f"{label} cleans")


@workflow
async def gated_child(label: str) -> str:
    return await gated(label)


@workflow
async def middle(label: str) -> str:
    try:
        return await child(label)
    finally:
        await does("middle cleans")


CHILD = f"a/{child.name}#1"


# -- the stories ----------------------------------------------------------------------------------------


@workflow
async def all_at_once() -> str:
    """A timer, a shielded timer, a step and a child are cancelled together; the shielded one goes on."""
    shielded = asyncio.ensure_future(asyncio.sleep(0.05, "shielded"))
    try:
        await asyncio.gather(asyncio.sleep(3600), asyncio.shield(shielded), hangs("x"), child("y"))
    except asyncio.CancelledError:
        see("cancelled")
        see(await shielded)
        await does("cleans")
        raise
    return "never"


@workflow
async def leaves_a_child() -> str:
    await perdure.start(gated_child("y"), id="left", on_parent_close="abandon")
    return await hangs("x")


@workflow
async def takes_its_child_along() -> str:
    started = await perdure.start(child("y"), id="taken")
    await gated("x")
    return await started.result()


@workflow
async def chain() -> str:
    return await middle("x")


@workflow
async def backs_off() -> str:
    return await will_be_tried_again("x")


@workflow
async def is_cleaning_up() -> str:
    try:
        return await hangs("x")
    finally:
        see("cleans")
        await gated("cleans")
        await does("cleaned")


@workflow
async def catches_exceptions() -> str:
    """A CancelledError is no Exception, so this doesn't swallow it."""
    while True:
        try:
            await hangs("x")
        except Exception:
            see("swallowed")


@workflow
async def swallows_and_goes_on() -> str:
    """Caught, it is over: everything works as before, time-outs and groups too."""
    try:
        await hangs("x")
    except asyncio.CancelledError:
        see("swallowed")
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(3600)
    except TimeoutError:
        see("timed out")
    async with asyncio.TaskGroup() as group:
        group.create_task(does("one"))
        group.create_task(does("two"))
    return await does("three")


@workflow
async def shields_with_anyio() -> str:
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(hangs, "x")
            await anyio.sleep(3600)
    finally:
        with anyio.CancelScope(shield=True):
            await does("cleans")
    return "never"


@workflow
async def shields_in_a_cancelled_scope() -> str:
    """Within a scope that is cancelled for good, only a shielded one lets code wait."""
    with anyio.move_on_after(0.01) as scope:
        try:
            await hangs("x")
        finally:
            with anyio.CancelScope(shield=True):
                await does("cleans")
                await anyio.sleep(0.005)
    see(f"moved on: {scope.cancelled_caught}")
    return await does("goes on")


@workflow
async def time_out_in_time_out() -> str:
    """The outer one is over first, and the inner one has nothing to do with it."""
    try:
        async with asyncio.timeout(0.02):
            try:
                async with asyncio.timeout(3600):
                    await hangs("x")
            except TimeoutError:
                return "the inner one, wrongly"
    except TimeoutError:
        see("the outer one")
    return await does("goes on")


@workflow
async def deaf_step() -> str:
    try:
        return await ignores_its_cancellation("x")
    except asyncio.CancelledError:
        see("cancelled at once")
        raise


@workflow
async def group_with_one_that_fails() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hangs("x"))
            group.create_task(child("y"))
            group.create_task(fails("z"))
    except* ValueError as errors:
        see(str(errors.exceptions[0]))
    return await does("goes on")


@workflow
async def waits_for_a_child_no_longer() -> str:
    try:
        return await asyncio.wait_for(child("x"), 0.02)
    except TimeoutError:
        see("timed out")
    return await does("goes on")


@workflow
async def sees_its_child_terminated() -> str:
    try:
        return await child("x")
    except RunTerminated as error:
        return type(error).__name__


@workflow
async def first_of_several() -> str:
    tasks = [asyncio.create_task(call) for call in (hangs("x"), gated("y"), hangs("z"))]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return done.pop().result()


@workflow
async def from_a_generator() -> str:
    async def items() -> AsyncIterator[str]:
        try:
            yield await does("item")
            yield await hangs("x")
        finally:
            await does("cleans")

    async with aclosing(items()) as found:
        async for item in found:
            see(item)
    return "never"


@workflow
async def waits_for_nothing_durable() -> str:
    lock = asyncio.Lock()
    await lock.acquire()
    await does("x")
    try:
        await lock.acquire()
    finally:
        await does("cleans")
    return "never"


@workflow
async def raises_something_else() -> str:
    try:
        return await hangs("x")
    except asyncio.CancelledError:
        raise ValueError("cleaning went wrong") from None


# -- what comes from outside ------------------------------------------------------------------------------


def once(*needed: str, then: Callable[[Engine, Handle[Any]], Awaitable[Any]] | None = None) -> Any:
    """When the bodies of these steps have begun, cancel the run, or do something else."""

    async def act(engine: Engine, handle: Handle[Any]) -> None:
        await until(lambda: all(came(f"{label} began") for label in needed))
        if then is None:
            await handle.cancel("enough")
        else:
            await then(engine, handle)

    return act


async def cancels_again(engine: Engine, handle: Handle[Any]) -> None:
    await handle.cancel("first")
    await until(lambda: came("cleans began"))
    await handle.cancel("second")

    async def both() -> bool:
        return len(await of_kind(handle, events.CancelRequested)) >= 2

    await until(both)
    gate("cleans").set()


async def cancel_then_open_y(engine: Engine, handle: Handle[Any]) -> None:
    await handle.cancel("enough")
    await reaches(handle, "cancelled")
    gate("y").set()


async def opens_y(engine: Engine, handle: Handle[Any]) -> None:
    gate("y").set()


async def opens_z(engine: Engine, handle: Handle[Any]) -> None:
    gate("z").set()


async def terminates_child(engine: Engine, handle: Handle[Any]) -> None:
    with suppress(perdure.RunConflictError):  # it has ended in an earlier life
        await engine.get(CHILD).terminate("no need")


async def cancels_when_it_backs_off(engine: Engine, handle: Handle[Any]) -> None:
    async def failed_once() -> bool:
        return bool(await of_kind(handle, events.StepAttemptFailed))

    await until(failed_once)
    await handle.cancel("enough")


async def cancels_when_x_is_done(engine: Engine, handle: Handle[Any]) -> None:
    async def is_done() -> bool:
        return bool(await of_kind(handle, events.StepCompleted))

    await until(is_done)
    await handle.cancel("enough")


async def nothing(engine: Engine, handle: Handle[Any]) -> None:
    """Nothing comes from outside."""


CANCELLED = "RunCancelled: enough"
SCENARIOS = {
    "timer, shielded timer, step and child together": Scenario(
        all_at_once, once("x", "y"), CANCELLED, ("cleans", "y cleans"), ((CHILD, "cancelled"),)
    ),
    "an abandoned child goes on": Scenario(
        leaves_a_child, once("x", "y", then=cancel_then_open_y), CANCELLED, ("y",), (("left", "completed"),)
    ),
    "a child is cancelled with its parent": Scenario(
        takes_its_child_along, once("x", "y"), CANCELLED, ("y cleans",), (("taken", "cancelled"),)
    ),
    "a chain of children": Scenario(
        chain,
        once("x"),
        CANCELLED,
        ("middle cleans", "x cleans"),
        ((f"a/{middle.name}#1", "cancelled"), (f"a/{middle.name}#1/{child.name}#1", "cancelled")),
    ),
    "between two attempts": Scenario(backs_off, cancels_when_it_backs_off, CANCELLED),
    "while it cleans up": Scenario(
        is_cleaning_up, once("x", then=cancels_again), "RunCancelled: first", ("cleaned", "cleans")
    ),
    "except Exception": Scenario(catches_exceptions, once("x"), CANCELLED),
    "swallowed": Scenario(swallows_and_goes_on, once("x"), "completed: three", ("one", "three", "two")),
    "an anyio shield": Scenario(shields_with_anyio, once("x"), CANCELLED, ("cleans",)),
    "an anyio shield in a cancelled scope": Scenario(
        shields_in_a_cancelled_scope, nothing, "completed: goes on", ("cleans", "goes on")
    ),
    "a time-out in a time-out": Scenario(time_out_in_time_out, nothing, "completed: goes on", ("goes on",)),
    "a step that ignores it": Scenario(deaf_step, once("x"), CANCELLED),
    "a group with one that fails": Scenario(
        group_with_one_that_fails,
        once("x", "y", "z", then=opens_z),
        "completed: goes on",
        ("goes on", "y cleans", "z"),
        ((CHILD, "cancelled"),),
    ),
    "a child that takes too long": Scenario(
        waits_for_a_child_no_longer,
        nothing,
        "completed: goes on",
        ("goes on", "x cleans"),
        ((CHILD, "cancelled"),),
    ),
    "a terminated child": Scenario(
        sees_its_child_terminated,
        once("x", then=terminates_child),
        "completed: RunTerminated",
        (),
        ((CHILD, "terminated"),),
    ),
    "the first of several": Scenario(
        first_of_several, once("x", "y", "z", then=opens_y), "completed: y", ("y",)
    ),
    "an async generator": Scenario(from_a_generator, once("x"), CANCELLED, ("cleans", "item")),
    "a lock": Scenario(waits_for_nothing_durable, cancels_when_x_is_done, CANCELLED, ("cleans", "x")),
    "another exception": Scenario(
        raises_something_else,
        once("x"),
        "RunFailed: builtins.ValueError: cleaning went wrong < ValueError: cleaning went wrong",
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_lives_and_replays(place: Place, name: str) -> None:
    run(lambda: lives(place, SCENARIOS[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_survives_a_crash_at_any_append(make_place: Callable[[], Place], name: str) -> None:
    assert run(lambda: survives(make_place, SCENARIOS[name])) >= 4


# -- while no worker was up -------------------------------------------------------------------------------


@workflow
async def sleeps() -> str:
    await does("x")
    try:
        await asyncio.sleep(3600)
        see("slept")
    except asyncio.CancelledError:
        see("cancelled")
        raise
    return "slept"


@pytest.mark.parametrize("dies_at", [None, 1, 2])
def test_a_cancellation_beats_a_timer_that_was_due_while_no_worker_was_up(
    place: Place, dies_at: int | None
) -> None:
    """Mail is taken before the clock is looked at, whenever the timer was due."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sleeps(), id="a")

            async def has_done() -> bool:
                return bool(await of_kind(handle, events.StepCompleted))

            await until(has_done)
        place.ahead += 3600
        async with place.engine(worker=False) as client:
            await client.get("a").cancel("enough")
        if dies_at is not None:
            engine = place.engine(lambda inner: Mortal(inner, dies_at, True, Ledger()))
            await engine.__aenter__()
            store: Any = engine._store
            await store.dead.wait()
            await crash(engine)
            await bury(place)
        async with place.engine() as engine:
            assert await ends(engine.get("a")) == CANCELLED
            assert not await of_kind(engine.get("a"), events.TimerFired)

    run(main)


@workflow
async def in_time() -> str:
    await does("x")
    await does("y")
    return "done"


def test_a_cancellation_after_the_end_changes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(in_time(), id="a") == "done"
            before = await history(engine.get("a"))
            await engine.get("a").cancel("too late")
            assert await history(engine.get("a")) == before
            assert await engine.get("a").result() == "done"

    run(main)


def test_a_run_that_fails_by_itself_amid_its_cancellation_says_so(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(raises_something_else(), id="a")
            await until(lambda: came("x began"))
            await handle.cancel("enough")
            with pytest.raises(RunFailed, match="cleaning went wrong"):
                await handle.result()
            assert "x interrupted" in SEEN

    run(main)
