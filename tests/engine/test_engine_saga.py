"""Sagas: what was done is undone in reverse order, whatever ends the block and whatever comes amid the undoing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from cancel_kit import (
    RESETS,
    SEEN,
    Scenario,
    begins,
    came,
    does,
    drives,
    fresh,
    hangs,
    labels,
    lives,
    see,
    survives,
)
from engine_kit import Place, of_kind, reaches, recorded, run, until

import perdure
from perdure import (
    CompensationFailed,
    Engine,
    Handle,
    Permanent,
    Retry,
    RunCancelled,
    RunFailed,
    RunTerminated,
    Saga,
    Status,
    events,
    step,
    workflow,
)
from perdure.errors import UsageError

TRIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}
RESETS.extend([TRIES.clear, GATES.clear])


@pytest.fixture(autouse=True)
def _soon_again() -> Iterator[None]:
    """An hour is long for a test."""
    fresh()
    import perdure.api.saga as module

    with pytest.MonkeyPatch.context() as patch:
        quick = dataclasses.replace(module.UNDO_RETRY, initial=0.001, max_interval=0.002)
        patch.setattr(module, "UNDO_RETRY", quick)
        yield


def gate(label: str) -> asyncio.Event:
    return GATES.setdefault(label, asyncio.Event())


@step
async def fails(label: str) -> str:
    begins(label)
    raise ValueError(f"{label} failed")


@step
async def undone_at_last(label: str) -> str:
    """Undoes in its fourth attempt; three times there is a mistake in its code."""
    begins(label)
    TRIES[label] += 1
    if TRIES[label] < 4:
        raise TypeError("a mistake")
    return label


@step
async def never_undone(label: str) -> str:
    begins(label)
    raise Permanent(f"{label} is gone")


@step(retry=Retry(max_attempts=2, initial=0.001))
async def given_up(label: str) -> str:
    begins(label)
    raise OSError(f"{label} is down")


@step
async def gated_undo(label: str) -> str:
    begins(label)
    await gate(label).wait()
    return label


@workflow
async def undoes(label: str) -> str:
    return await does(f"{label} in a child")


Body = Callable[[Saga], Awaitable[Any]]


async def two_done(saga: Saga) -> None:
    saga.undo(does("undo a"))
    await does("a")
    saga.undo(does("undo b"))
    await does("b")


async def fails_later(saga: Saga) -> None:
    await two_done(saga)
    await fails("c")


async def is_slow(saga: Saga) -> None:
    await two_done(saga)
    await hangs("c")


async def undone_slowly(saga: Saga) -> None:
    saga.undo(undone_at_last("undo a"))
    await does("a")
    await fails("c")


async def undone_in_a_child(saga: Saga) -> None:
    saga.undo(undoes("undo a"))
    await does("a")
    await fails("c")


async def partly(saga: Saga) -> None:
    saga.undo(does("undo a"))
    saga.undo(never_undone("undo b"))
    saga.undo(given_up("undo c"))
    saga.undo(does("undo d"))
    await fails("e")


async def nested(saga: Saga) -> None:
    saga.undo(does("undo a"))
    async with Saga() as inner:
        inner.undo(does("undo b"))
        await does("b")
    async with Saga() as inner:
        inner.undo(does("undo c"))
        await fails("c")


async def cancelled_amid(saga: Saga) -> None:
    saga.undo(does("undo a"))
    saga.undo(gated_undo("undo b"))
    await fails("c")


async def timed_out_amid(saga: Saga) -> None:
    """The time-out comes while a saga within it undoes."""
    async with asyncio.timeout(0.02), Saga() as inner:
        inner.undo(does("undo a"))
        inner.undo(gated_undo("undo b"))
        await fails("c")


async def in_a_cancelled_scope(saga: Saga) -> None:
    """anyio insists on a cancellation in every turn of the loop."""
    import anyio

    with anyio.move_on_after(0.01) as scope:
        async with Saga() as inner:
            inner.undo(does("undo a"))
            inner.undo(undone_at_last("undo b"))
            await hangs("c")
    see(f"moved on: {scope.cancelled_caught}")


async def in_a_group(saga: Saga) -> None:
    async def other() -> None:
        async with Saga() as inner:
            inner.undo(undone_at_last("undo a"))
            await hangs("c")

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        group.create_task(fails("d"))


async def left_running(saga: Saga) -> None:
    """gather leaves the others running when one fails; what they do then is undone as well."""

    async def late() -> None:
        saga.undo(does("undo late"))
        await hangs("late")

    saga.undo(does("undo a"))
    await asyncio.gather(fails("d"), late())


async def known_afterwards(saga: Saga) -> None:
    """What undoes needs the step's result."""
    task = asyncio.create_task(gated_undo("number"))
    try:
        number = await asyncio.shield(task)
    except asyncio.CancelledError:
        saga.undo(does(f"undo {await task}"))
        raise
    saga.undo(does(f"undo {number}"))


BODIES: dict[str, Body] = {
    body.__name__: body
    for body in (
        fails_later, is_slow, undone_slowly, undone_in_a_child, partly, nested, cancelled_amid, timed_out_amid,
        in_a_cancelled_scope, in_a_group, known_afterwards, left_running, two_done,
    )
}  # fmt: skip


@workflow
async def travels(how: str) -> str:
    try:
        async with Saga() as saga:
            await BODIES[how](saga)
    except BaseException as error:
        see(f"out of the saga: {type(error).__name__}")
        raise
    return "done"


async def nothing(engine: Engine, handle: Handle[Any]) -> None:
    """Nothing comes from outside."""


async def cancels(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("c began"))
    await handle.cancel("enough")


async def terminates(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("c began"))
    with suppress(perdure.RunConflictError):  # it has ended in an earlier life
        await handle.terminate("enough", compensate=True)


async def cancels_amid(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("undo b began"))
    await handle.cancel("enough")

    async def is_recorded() -> bool:
        return bool(await of_kind(handle, events.CancelRequested))

    await until(is_recorded)
    gate("undo b").set()


async def cancels_and_opens(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("number began"))
    await handle.cancel("enough")

    async def is_recorded() -> bool:
        return bool(await of_kind(handle, events.CancelRequested))

    await until(is_recorded)
    gate("number").set()


async def opens_when_time_is_up(engine: Engine, handle: Handle[Any]) -> None:
    async def time_is_up() -> bool:
        return bool(await of_kind(handle, events.TimerFired))

    await until(time_is_up)
    gate("undo b").set()


FAILED = "RunFailed: builtins.ValueError: c failed < ValueError: c failed"
AB = ("a", "b", "undo a", "undo b")
SCENARIOS = {
    "nothing to undo": Scenario(lambda: travels("two_done"), nothing, "completed: done", ("a", "b")),
    "failure": Scenario(lambda: travels("fails_later"), nothing, FAILED, (*AB, "c")),
    "cancellation": Scenario(lambda: travels("is_slow"), cancels, "RunCancelled: enough", AB),
    "termination": Scenario(lambda: travels("is_slow"), terminates, "RunTerminated: enough", AB),
    "retries": Scenario(lambda: travels("undone_slowly"), nothing, FAILED, ("a", "c", "undo a")),
    "child": Scenario(
        lambda: travels("undone_in_a_child"),
        nothing,
        FAILED,
        ("a", "c", "undo a in a child"),
        ((f"a/{undoes.name}#1", "completed"),),
    ),
    "nested": Scenario(lambda: travels("nested"), nothing, FAILED, ("b", "c", "undo a", "undo c")),
    "cancelled amid": Scenario(
        lambda: travels("cancelled_amid"), cancels_amid, "RunCancelled: enough", ("c", "undo a", "undo b")
    ),
    "known afterwards": Scenario(
        lambda: travels("known_afterwards"),
        cancels_and_opens,
        "RunCancelled: enough",
        ("number", "undo number"),
    ),
    "timed out amid": Scenario(
        lambda: travels("timed_out_amid"),
        opens_when_time_is_up,
        "RunFailed: builtins.TimeoutError:  < TimeoutError: ",
        ("c", "undo a", "undo b"),
    ),
    "anyio scope": Scenario(
        lambda: travels("in_a_cancelled_scope"), nothing, "completed: done", ("undo a", "undo b")
    ),
    "task group": Scenario(
        lambda: travels("in_a_group"),
        nothing,
        "RunFailed: builtins.ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"
        " < ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
        ("d", "undo a"),
    ),
    "left running": Scenario(
        lambda: travels("left_running"),
        nothing,
        "RunFailed: builtins.ValueError: d failed < ValueError: d failed",
        ("d", "undo a", "undo late"),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_saga_undoes_live_and_on_replay(place: Place, name: str) -> None:
    run(lambda: lives(place, SCENARIOS[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_saga_survives_a_crash_at_any_append(make_place: Callable[[], Place], name: str) -> None:
    assert run(lambda: survives(make_place, SCENARIOS[name])) >= 4


def undo_order() -> list[str]:
    return [entry.removesuffix(" began") for entry in SEEN if entry.startswith("undo")]


def test_the_newest_is_undone_first(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await drives(engine, SCENARIOS["failure"])
            assert undo_order() == ["undo b", "undo a"]
            assert await drives(
                engine, dataclasses.replace(SCENARIOS["nested"], call=lambda: travels("fails_later"))
            )

    run(main)


def test_what_can_not_be_undone_is_told_and_the_rest_is_undone(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(travels("partly"), id="a")
            with pytest.raises(RunFailed) as info:
                await handle.result()
            assert await labels(engine) == ("e", "undo a", "undo b", "undo c", "undo d")
            assert Counter(undo_order()) == {"undo a": 1, "undo b": 1, "undo c": 2, "undo d": 1}
        error = info.value.__cause__
        assert isinstance(error, CompensationFailed)
        assert error.left == [f"{given_up.name}#1", f"{never_undone.name}#1"]
        assert "OSError: undo c is down" in str(error)
        assert "Permanent: undo b is gone" in str(error)
        assert isinstance(error.__cause__, ValueError)

    run(main)


def test_a_saga_that_fails_to_compensate_shows_when_it_was_terminated(place: Place) -> None:
    @workflow(name="saga.fails_to_compensate")
    async def fails_to_compensate() -> None:
        async with Saga() as saga:
            saga.undo(never_undone("undo a"))
            await hangs("c")

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(fails_to_compensate(), id="a")
            await terminates(engine, handle)
            with pytest.raises(RunTerminated, match="enough"):
                await handle.result()
            (last,) = await of_kind(handle, events.RunTerminated)
            assert last.failure.type == "perdure.errors.CompensationFailed"
            assert "undo a is gone" in last.failure.message

    run(main)


def test_leaving_memory_undoes_nothing(place: Place) -> None:
    @workflow(name="saga.sleeps")
    async def sleeps() -> str:
        async with Saga() as saga:
            saga.undo(does("undo a"))
            await does("a")
            await gated_undo("b")
            await asyncio.sleep(0.01)
        return "done"

    async def main() -> None:
        async with place.engine(grace=0) as engine:
            await engine.start(sleeps(), id="a")
            await until(lambda: came("b began"))
        async with place.engine() as engine:
            gate("b").set()
            assert await engine.get("a").result() == "done"
            assert not undo_order()
            assert len(await recorded(engine.get("a"))) == 2

    run(main)


def test_the_time_for_cleaning_does_not_cut_a_saga_short(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(travels("waits_and_undoes_slowly"), id="a", timeout=0.02)
            await until(lambda: came("undo b began"))
            await asyncio.sleep(0.1)
            assert not (await handle.status()).final
            gate("undo b").set()
            with pytest.raises(perdure.RunTimedOut):
                await handle.result()
            assert await labels(engine) == ("undo a", "undo b")

    async def waits_and_undoes_slowly(saga: Saga) -> None:
        saga.undo(does("undo a"))
        saga.undo(gated_undo("undo b"))
        await hangs("c")

    BODIES["waits_and_undoes_slowly"] = waits_and_undoes_slowly
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.runtime.timelimit.CLEANUP_SECONDS", 0.02)
        run(main)


@pytest.mark.parametrize("before", ["while it waits", "while it cleans up", "before its first activation"])
def test_terminating_with_compensation_wins_over_what_the_code_returns(place: Place, before: str) -> None:
    @workflow(name="saga.returns_all_the_same")
    async def returns_all_the_same() -> str:
        try:
            await hangs("c")
        except asyncio.CancelledError:
            await gated_undo("cleans")
        return "all the same"

    @workflow(name="saga.parent_of_terminated")
    async def parent() -> str:
        try:
            return await returns_all_the_same()
        except RunTerminated as error:
            return type(error).__name__

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(parent(), id="p")
            if before == "before its first activation":
                handle = await client.start(returns_all_the_same(), id="a")
                await handle.terminate("enough", compensate=True)
            async with place.engine(grace=0) as engine:
                child = client.get(f"p/{returns_all_the_same.name}#1")
                if before == "before its first activation":
                    await handle.cancel("a cancel after that changes nothing")
                    child = handle
                else:
                    await until(lambda: came("c began"))
                if before == "while it cleans up":
                    await child.cancel("first")
                    await until(lambda: came("cleans began"))
                if before != "before its first activation":
                    await child.terminate("enough", compensate=True)

                async def is_taken() -> bool:
                    asked = await of_kind(child, events.CancelRequested)
                    return any(event.terminate for event in asked)

                await until(is_taken)
                gate("cleans").set()
                with pytest.raises(RunTerminated, match="enough"):
                    await child.result()
                assert await child.status() == Status.TERMINATED
                assert (await child.info()).reason == "enough"
                assert len(await recorded(child)) == 1
                if child is not handle:
                    assert await engine.get("p").result() == "RunTerminated"
                with pytest.raises(perdure.RunConflictError, match="ended already"):
                    await child.terminate(compensate=True)

    run(main)


def test_arguments_are_taken_as_they_are_when_undo_is_called(place: Place) -> None:
    @step(name="saga.takes")
    async def takes(items: list[str]) -> list[str]:
        return items

    @workflow(name="saga.changes")
    async def changes() -> None:
        items = ["a"]
        async with Saga() as saga:
            saga.undo(takes(items))
            items.append("b")
            await fails("c")

    @workflow(name="saga.unfit")
    async def unfit() -> None:
        async with Saga() as saga:
            saga.undo(does("undo a"))
            saga.undo(takes([object()]))  # type: ignore[list-item]

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(RunFailed):
                await engine.run(changes(), id="a")
            ended = await of_kind(engine.get("a"), events.StepCompleted)
            assert [event.result for event in ended] == [b'["a"]']
            with pytest.raises(RunFailed, match="NotSerializableError"):
                await engine.run(unfit(), id="b")
            assert len(await recorded(engine.get("b"))) == 1  # what came before is undone

    run(main)


def test_misuse_is_told() -> None:
    async def main() -> None:
        async with Saga() as saga:
            with pytest.raises(UsageError, match=r"saga.undo\(\) takes the call"):
                saga.undo(asyncio.sleep)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="was over"):
            saga.undo(does("x"))

    run(main)


def test_outside_of_runs_a_saga_undoes_plainly() -> None:
    done: list[str] = []

    @step(name="saga.plain")
    async def plain(label: str) -> None:
        await asyncio.sleep(0.01)
        done.append(label)

    async def body(how: str) -> None:
        async with Saga() as saga:
            saga.undo(plain("a"))
            saga.undo(plain("b"))
            if how == "fails":
                raise ValueError(how)
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        with pytest.raises(ValueError, match="fails"):
            await body("fails")
        assert done == ["b", "a"]
        task = asyncio.ensure_future(body("hangs"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.001)
        task.cancel()  # amid the undoing
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["b", "a"] * 2

    run(main)


def test_a_cancelled_run_with_an_unfinished_saga_says_what_it_waits_for(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(travels("cancelled_amid"), id="a")
            await until(lambda: came("undo b began"))
            await handle.cancel("enough")
            await reaches(handle, "running")

            async def is_shown() -> bool:
                return [wait.id for wait in (await handle.info()).waiting_for] == [f"{gated_undo.name}#1"]

            await until(is_shown)
            gate("undo b").set()
            with pytest.raises(RunCancelled):
                await handle.result()

    run(main)


def test_continuing_as_another_run_is_no_failure(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(goes_on_as(False), id="a") == "again"
            assert SEEN == ["a began"]

    run(main)


@workflow
async def goes_on_as(again: bool) -> str:
    if again:
        return "again"
    async with Saga() as saga:
        saga.undo(does("undo a"))
        await does("a")
        perdure.continue_as(goes_on_as(True))
    return "never"
