"""`perdure.poll`: the first look at once, durable waits, time-outs, and what counts as found."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, history, of_kind, recorded, run, until

import perdure
from perdure import events, step, workflow
from perdure.errors import PerdureError, UsageError

LOOKS: list[Any] = []
ANSWERS: list[Any] = []


@step(name="poll.look")
async def look() -> Any:
    LOOKS.append(len(LOOKS))
    return ANSWERS[min(len(LOOKS), len(ANSWERS)) - 1]


@workflow(name="poll.waits")
async def waits(every: float, timeout: float | None) -> Any:
    try:
        return await perdure.poll(look, every=every, timeout=timeout)
    except TimeoutError as error:
        return f"TimeoutError: {error}"


@pytest.fixture(autouse=True)
def fresh() -> None:
    LOOKS.clear()
    ANSWERS.clear()


@pytest.mark.parametrize("found", [True, 0, "", "x", [], {"a": 1}])
def test_the_first_result_that_is_neither_none_nor_false_is_found(memory: Place, found: Any) -> None:
    ANSWERS.extend([None, False, found])

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(waits(0.001, None))
            assert await handle.result() == found
            assert len(await recorded(handle)) == 3
            assert len(await of_kind(handle, events.TimerFired)) == 2

    run(main)


def test_the_first_look_is_at_once(memory: Place) -> None:
    ANSWERS.append("here")

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(waits(1000, 0.0))
            assert await handle.result() == "here"
            assert [type(event) for event in await history(handle)] == [
                events.RunStarted,
                events.StepCompleted,
                events.RunCompleted,
            ]

    run(main)


def test_the_time_may_be_up(memory: Place) -> None:
    ANSWERS.append(None)

    async def main() -> None:
        async with memory.engine() as engine:
            assert "nothing within its timeout of 0.05 s" in await engine.run(waits(1000, 0.05))
            assert len(LOOKS) == 1
            assert "nothing within its timeout of 0.0 s" in await engine.run(waits(1000, 0.0))
            assert len(LOOKS) == 2

    run(main)


def test_a_look_that_lasts_is_cut_off(memory: Place) -> None:
    @workflow(name="poll.slow_look")
    async def slow_look() -> str:
        async def lasts() -> None:
            await asyncio.sleep(60)

        try:
            await perdure.poll(lasts, every=1, timeout=0.02)
        except TimeoutError:
            return "cut off"

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(slow_look()) == "cut off"

    run(main)


def test_an_error_of_the_look_is_the_pollers(memory: Place) -> None:
    @workflow(name="poll.failing_look")
    async def failing_look() -> str:
        async def fails() -> None:
            raise TimeoutError("the look's own")

        try:
            await perdure.poll(fails, every=1, timeout=60)
        except TimeoutError as error:
            return str(error)

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(failing_look()) == "the look's own"

    run(main)


def waited(**options: Any) -> list[float]:
    """The waits of a poll that looks six times, by a clock that only its sleeps move."""
    pauses: list[float] = []

    async def sleeps(seconds: float) -> None:
        pauses.append(seconds)

    async def main() -> None:
        async def sixth() -> bool:
            return len(pauses) == 5

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("perdure.api.polling.asyncio.sleep", sleeps)
            await perdure.poll(sixth, **options)

    run(main)
    return pauses


def test_waits_grow_up_to_a_limit() -> None:
    assert waited(every=1) == [1, 1, 1, 1, 1]
    assert waited(every=1, backoff=2) == [1, 2, 4, 8, 16]
    assert waited(every=1, backoff=3, max_every=10) == [1, 3, 9, 10, 10]
    assert waited(every=1000, backoff=2) == [1000, 2000, 3600, 3600, 3600]
    assert waited(every=5000, backoff=2) == [5000] * 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0},
        {"every": -1},
        {"every": 1, "backoff": 0.5},
        {"every": 1, "backoff": math.inf},
        {"every": 1, "backoff": math.nan},
        {"every": 5, "max_every": 1},
        {"every": 1, "timeout": -1},
    ],
)
def test_numbers_out_of_range_are_told(wrong: dict[str, Any]) -> None:
    async def found() -> bool:
        return True

    check: Callable[[], Awaitable[bool]] = found
    with pytest.raises(PerdureError, match="poll"):
        run(lambda: perdure.poll(check, **wrong))


def test_the_check_is_a_function() -> None:
    async def found() -> bool:
        return True

    awaitable: Any = found()
    with pytest.raises(UsageError, match="without arguments"):
        run(lambda: perdure.poll(awaitable, every=1))
    awaitable.close()


def test_a_wait_goes_on_after_a_crash(place: Place) -> None:
    """The interval isn't begun again, and no look is repeated."""
    ANSWERS.extend([None, "found"])

    async def main() -> None:
        ledger = Ledger()
        engine = place.engine(lambda inner: Mortal(inner, 10**9, False, ledger))
        await engine.__aenter__()
        handle = await engine.start(waits(0.3, 60), id="a")
        await until(lambda: ledger.recorded)
        asked_at = (await of_kind(handle, events.StepCompleted))[0].at
        await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            handle = engine.get("a")
            assert await handle.result() == "found"
            (fired,) = [event for event in await of_kind(handle, events.TimerFired) if "sleep" in event.timer]
            assert fired.at >= asked_at + 0.3
            assert len(LOOKS) == 2

    run(main)
