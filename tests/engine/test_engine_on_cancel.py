"""What a cancellation does to a step is the step's choice: `try`, `wait`, `abandon`; live, on replay, after crashes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cancel_kit import RESETS, SEEN, Scenario, begins, came, does, fresh, lives, see, survives
from engine_kit import Place, bury, crash, of_kind, reaches, recorded, run, until

import perdure
from perdure import Engine, Handle, Retry, RunCancelled, events, step, workflow

GATES: dict[str, asyncio.Event] = {}
TRIES: Counter[str] = Counter()
RELEASED = threading.Event()


RESETS.extend([GATES.clear, TRIES.clear, RELEASED.clear])


@pytest.fixture(autouse=True)
def _closed_gates() -> None:
    fresh()


@step
async def gated(label: str) -> str:
    """Goes on when its gate opens."""
    begins(label)
    try:
        await GATES.setdefault(label, asyncio.Event()).wait()
    except asyncio.CancelledError:
        SEEN.append(f"{label} interrupted")
        raise
    SEEN.append(f"{label} ended")
    return label


@step
def in_thread(label: str) -> str:
    """Goes on when it is released or told."""
    begins(label)
    info = perdure.step_info()
    while not info.cancelled and not RELEASED.wait(0.005):
        pass
    SEEN.append(f"{label} {'told' if info.cancelled else 'ended'}")
    return label


@step(retry=Retry(initial=0.001, max_attempts=50))
async def gated_and_failing(label: str) -> str:
    begins(label)
    TRIES[label] += 1
    await GATES.setdefault(label, asyncio.Event()).wait()
    raise ValueError(f"{label} failed")


@workflow
async def waits_for(policy: str, sync: bool = False) -> str:
    see("begins")
    body = in_thread if sync else gated
    try:
        return await body.with_options(on_cancel=policy)("w")  # type: ignore[arg-type]
    except asyncio.CancelledError as error:
        see(f"cancelled: {error}")
        await does("cleans")
        raise


async def cancel_amid(engine: Engine, handle: Handle[Any]) -> None:
    """Cancel while the step executes, and let it end when the cancellation is in the history."""
    await until(lambda: came("w began"))
    await handle.cancel("enough")

    async def is_recorded() -> bool:
        return bool(await of_kind(handle, events.CancelRequested))

    await until(is_recorded)
    GATES.setdefault("w", asyncio.Event()).set()
    RELEASED.set()


async def just_cancel(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("w began"))
    await handle.cancel("enough")


def policy(name: str, sync: bool, *steps: str) -> Scenario:
    act = cancel_amid if name == "wait" else just_cancel
    return Scenario(lambda: waits_for(name, sync), act, "RunCancelled: enough", steps)


SCENARIOS = {
    "try": policy("try", False, "cleans"),
    "try in a thread": policy("try", True, "cleans"),
    "wait": policy("wait", False, "w", "cleans"),
    "wait in a thread": policy("wait", True, "w", "cleans"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_policy_holds_live_and_on_replay(place: Place, name: str) -> None:
    run(lambda: lives(place, SCENARIOS[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_policy_survives_a_crash_at_any_append(make_place: Callable[[], Place], name: str) -> None:
    assert run(lambda: survives(make_place, SCENARIOS[name])) >= 4


def test_with_try_the_step_is_interrupted_and_the_code_goes_on_at_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for("try"), id="a")
            await until(lambda: came("w began"))
            await handle.cancel()
            await reaches(handle, "cancelled")
            assert "w interrupted" in SEEN
            assert [id.rpartition(".")[2] for id in await recorded(handle)] == ["does#1"]

    run(main)


def test_with_wait_the_code_is_cancelled_when_the_outcome_is_recorded(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for("wait"), id="a")
            await until(lambda: came("w began"))
            await handle.cancel()
            await cancel_amid(engine, handle)
            await reaches(handle, "cancelled")
            assert "w interrupted" not in SEEN
            told = (events.CancelRequested, events.StepCompleted, events.RunCancelled)
            kinds = [type(event) for event in await of_kind(handle, *told)]
            assert kinds == [told[0], told[0], told[1], told[1], told[2]]  # the second cancel changed nothing
            ended = await of_kind(handle, events.StepCompleted)
            assert [event.result for event in ended] == [b'"w"', b'"cleans"']

    run(main)


@pytest.mark.parametrize("sync", [False, True])
def test_with_abandon_the_code_goes_on_at_once_and_the_step_to_its_end(place: Place, sync: bool) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for("abandon", sync), id="a")
            await until(lambda: came("w began"))
            await handle.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await handle.result()
            assert SEEN == ["w began", "cleans began"]  # it wasn't told, and is still at it
            assert len(engine._worker.steps.executing) == 1  # type: ignore[union-attr]
            GATES.setdefault("w", asyncio.Event()).set()
            RELEASED.set()
            await until(lambda: not engine._worker.steps.executing)  # type: ignore[union-attr]
            assert SEEN == ["w began", "cleans began", "w ended"]
            assert len(await recorded(handle)) == 1  # the run had ended

    run(main)


@workflow
async def outlives(label: str) -> str:
    try:
        async with asyncio.timeout(0.01):
            await gated.with_options(on_cancel="abandon")(label)
    except TimeoutError:
        see("timed out")
    return await gated("other")


def test_an_abandoned_step_that_ends_in_time_is_noted_and_not_begun_again(place: Place) -> None:
    async def main() -> None:
        async with place.engine(grace=0) as engine:
            handle = await engine.start(outlives("w"), id="a")
            await until(lambda: came("other began"))
            assert not came("w ended")
            GATES["w"].set()

            async def is_noted() -> bool:
                return len(await recorded(handle)) == 1

            await until(is_noted)
        assert Counter(SEEN)["w began"] == 1
        async with place.engine() as engine:  # and replays so
            GATES["other"] = asyncio.Event()
            GATES["other"].set()
            assert await engine.get("a").result() == "other"
        assert Counter(SEEN)["w began"] == 1

    run(main)


def test_an_abandoned_step_is_no_retried_one(place: Place) -> None:
    @workflow(name="on_cancel.abandons_failing")
    async def abandons_failing() -> str:
        try:
            async with asyncio.timeout(0.01):
                await gated_and_failing.with_options(on_cancel="abandon")("w")
        except TimeoutError:
            pass
        return await gated("other")

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(abandons_failing(), id="a")
            await until(lambda: came("other began"))
            GATES["w"].set()

            async def is_noted() -> bool:
                return len(await of_kind(handle, events.StepFailed)) == 1

            await until(is_noted)
            GATES["other"].set()
            assert await handle.result() == "other"
            assert TRIES["w"] == 1

    run(main)


@workflow
async def sees_it_through(kind: str) -> str:
    target: Awaitable[Any] = {
        "fails": lambda: gated_and_failing.with_options(on_cancel="wait")("w"),
        "backs off": lambda: backs_off.with_options(on_cancel="wait")("w"),
        "in line": lambda: asyncio.gather(gated("first"), gated.with_options(on_cancel="wait")("w")),
    }[kind]()
    try:
        await target
    except asyncio.CancelledError:
        see("cancelled")
        raise
    return "never"


@step(retry=Retry(initial=3600.0))
async def backs_off(label: str) -> str:
    begins(label)
    raise OSError("not now")


def test_with_wait_the_attempt_that_executes_is_the_last(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sees_it_through("fails"), id="a")
            await cancel_amid(engine, handle)
            with pytest.raises(RunCancelled):
                await handle.result()
            (failed,) = await of_kind(handle, events.StepFailed)
            assert (failed.attempt, failed.failure.message, TRIES["w"]) == (1, "w failed", 1)

    run(main)


def test_with_wait_a_step_between_attempts_has_failed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sees_it_through("backs off"), id="a")

            async def waits() -> bool:
                return bool(await of_kind(handle, events.StepAttemptFailed))

            await until(waits)
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            (failed,) = await of_kind(handle, events.StepFailed)
            assert (failed.attempt, failed.failure.message) == (1, "not now")
            assert Counter(SEEN)["w began"] == 1

    run(main)


def test_with_wait_a_step_that_stands_in_line_does_not_begin(place: Place) -> None:
    async def main() -> None:
        async with place.engine(concurrency=1) as engine:
            handle = await engine.start(sees_it_through("in line"), id="a")
            await until(lambda: came("first began"))
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            (failed,) = await of_kind(handle, events.StepFailed)
            assert (failed.attempt, "before its first attempt" in failed.failure.message) == (0, True)
            assert not came("w began")

    run(main)


def test_an_interrupted_step_with_wait_is_executed_again_after_a_crash(place: Place) -> None:
    """Whether it had its effect is unknown; the code waits until it is known."""

    async def main() -> None:
        engine = place.engine()
        await engine.__aenter__()
        handle = await engine.start(waits_for("wait"), id="a")
        await until(lambda: came("w began"))
        await handle.cancel()

        async def is_recorded() -> bool:
            return bool(await of_kind(handle, events.CancelRequested))

        await until(is_recorded)
        await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            handle = engine.get("a")
            await until(lambda: Counter(SEEN)["w began"] == 2)
            assert await handle.status() == "running"
            GATES["w"].set()
            with pytest.raises(RunCancelled):
                await handle.result()
            assert len(await recorded(handle)) == 2

    run(main)


@workflow
async def in_timeout() -> str:
    try:
        async with asyncio.timeout(0.01):
            await gated.with_options(on_cancel="wait")("w")
    except TimeoutError:
        see("timed out")
        return "timed out"
    return "never"


@workflow
async def in_group() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(gated.with_options(on_cancel="wait")("w"))
            group.create_task(gated_and_failing.with_options(retry=Retry(max_attempts=1))("x"))
    except ExceptionGroup as errors:
        see(repr(errors.exceptions))
        return str(errors.exceptions[0])
    return "never"


@workflow
async def in_scope() -> str:
    import anyio

    with anyio.move_on_after(0.01) as scope:
        await gated.with_options(on_cancel="wait")("w")
    see(f"moved on: {scope.cancelled_caught}")
    return "moved on" if scope.cancelled_caught else "never"


@workflow
async def resists_in_scope() -> str:
    """A cancelled scope insists in every turn; the step's outcome comes from outside the loop."""
    import anyio

    async with anyio.create_task_group() as group:
        group.start_soon(waits_in_scope)
        await gated("x")
        group.cancel_scope.cancel()
    see("left")
    return "left"


async def waits_in_scope() -> None:
    await gated.with_options(on_cancel="wait")("w")


async def w_began(engine: Engine, handle: Handle[Any]) -> None:
    async def time_is_up() -> bool:
        return bool(await of_kind(handle, events.TimerFired)) or (await handle.status()).final

    await until(time_is_up)
    GATES.setdefault("w", asyncio.Event()).set()


async def x_ends_first(engine: Engine, handle: Handle[Any]) -> None:
    await until(lambda: came("w began") and came("x began"))
    GATES.setdefault("x", asyncio.Event()).set()

    async def x_ended() -> bool:
        ended = await of_kind(handle, events.StepCompleted, events.StepFailed)
        return any(b'"x"' in (event.input or b"") for event in ended)

    await until(x_ended)
    GATES.setdefault("w", asyncio.Event()).set()


AROUND = {
    "timeout": Scenario(in_timeout, w_began, "completed: timed out", ("w",)),
    "task group": Scenario(in_group, x_ends_first, "completed: x failed", ("w", "x")),
    "anyio timeout": Scenario(in_scope, w_began, "completed: moved on", ("w",)),
    "anyio group": Scenario(resists_in_scope, x_ends_first, "completed: left", ("w", "x")),
}


@pytest.mark.parametrize("name", AROUND)
def test_wait_holds_off_whatever_cancels(place: Place, name: str) -> None:
    run(lambda: lives(place, AROUND[name]))


@pytest.mark.parametrize("name", AROUND)
def test_wait_holds_off_whatever_cancels_over_crashes(make_place: Callable[[], Place], name: str) -> None:
    assert run(lambda: survives(make_place, AROUND[name])) >= 4


@pytest.mark.parametrize("policy", ["try", "wait", "abandon"])
def test_every_policy_can_be_given_to_the_decorator(policy: Any) -> None:
    @step(name=f"on_cancel.decorated_{policy}", on_cancel=policy)
    async def decorated() -> None: ...

    assert decorated.options.on_cancel == policy
    assert decorated.with_options(on_cancel="try").options.on_cancel == "try"


def test_another_policy_is_refused() -> None:
    with pytest.raises(perdure.errors.ConfigurationError, match="on_cancel='never'"):
        step(on_cancel="never")  # type: ignore[call-overload]
    with pytest.raises(perdure.errors.ConfigurationError, match="on_cancel='never'"):
        does.with_options(on_cancel="never")  # type: ignore[arg-type]
