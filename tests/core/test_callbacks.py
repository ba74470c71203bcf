"""Callbacks on a bare machine: what is recorded of them, and what code that has changed may do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

import perdure
from helpers.simulation import SEED, START, Simulation, do
from perdure.core import events as ev
from perdure.core.commands import AwaitCallback, CancelOperation, Finish
from perdure.core.timeline import waits
from perdure.errors import CallbackFailed, NonDeterminismError

OPENED = ev.CallbackOpened(at=START, op="callback:1", timeout=60.0)
FAILED = ev.Failure(type="perdure.errors.CallbackFailed", message="no")
OUTCOMES = {
    "value": ev.CallbackEnded(at=START + 5, callback="callback:1", result=b'"value"'),
    "CallbackFailed: no": ev.CallbackEnded(at=START + 5, callback="callback:1", failure=FAILED),
    "TimeoutError: no": ev.CallbackEnded(at=START + 5, callback="callback:1", failure=FAILED, timed_out=True),
}


OPEN: list[Simulation] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No run's code is left suspended."""
    yield
    while OPEN:
        OPEN.pop().machine.close()


def simulation_of(make: Callable[[], Coroutine[Any, Any, Any]]) -> Simulation:
    OPEN.append(Simulation(make))
    return OPEN[-1]


def started() -> ev.RunStarted:
    return ev.RunStarted(at=START, workflow="main", input=b"", seed=SEED)


async def asks() -> str:
    answer = perdure.callback(str, timeout=60)
    try:
        return await answer
    except (CallbackFailed, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"


def replayed(make: Callable[[], Coroutine[Any, Any, Any]], events: Sequence[ev.Event]) -> Simulation:
    simulation = simulation_of(make)
    simulation.replay([started(), *events])
    return simulation


def test_it_is_asked_for_once_and_watched_again_after_a_replay() -> None:
    simulation = simulation_of(asks)
    simulation.begin(started())
    (asked,) = simulation.machine.take_commands()
    assert isinstance(asked, AwaitCallback)
    assert (asked.id, asked.timeout, asked.heartbeat, asked.recorded) == ("callback:1", 60, None, False)
    simulation.feed(OPENED)
    assert (asked.recorded, asked.opened_at) == (True, START)
    assert simulation.machine.take_commands() == []
    (again,) = replayed(asks, [OPENED]).machine.take_commands()
    assert isinstance(again, AwaitCallback)
    assert (again.recorded, again.opened_at, again.token_hash) == (True, START, asked.token_hash)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_its_end_is_the_same_live_and_on_replay(outcome: str) -> None:
    live = simulation_of(asks)
    live.begin(started())
    live.machine.take_commands()
    live.feed(OPENED)
    live.feed(OUTCOMES[outcome])
    forgotten, live_end = live.machine.take_commands()
    assert isinstance(forgotten, CancelOperation)  # its clock
    (end,) = replayed(asks, [OPENED, OUTCOMES[outcome]]).machine.take_commands()
    assert isinstance(live_end, Finish)
    assert isinstance(end, Finish)
    assert end.value == live_end.value == outcome


def test_it_keeps_the_times_that_it_was_opened_with() -> None:
    opened = ev.CallbackOpened(at=START, op="callback:1", timeout=5.0, heartbeat=2.0)
    (again,) = replayed(asks, [opened]).machine.take_commands()
    assert isinstance(again, AwaitCallback)
    assert (again.timeout, again.heartbeat) == (5.0, 2.0)


async def does_something_else() -> str:
    return await do("a")


async def sleeps_first() -> str:
    await asyncio.sleep(1)
    return await perdure.callback(str)


@pytest.mark.parametrize("changed", [does_something_else, sleeps_first])
def test_code_that_doesnt_make_it_any_more_has_diverged(
    changed: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    with pytest.raises(NonDeterminismError, match="'callback:1' was opened"):
        replayed(changed, [OPENED])


def test_an_end_that_nobody_waits_for_is_a_divergence() -> None:
    with pytest.raises(NonDeterminismError, match="'callback:2' ended"):
        replayed(asks, [OPENED, ev.CallbackEnded(at=START, callback="callback:2", result=b"1")])


def test_a_value_that_doesnt_fit_becomes_a_failure_before_it_is_recorded() -> None:
    simulation = simulation_of(asks)
    simulation.begin(started())
    simulation.feed(OPENED)
    read = simulation.machine.read_callback
    fits = OUTCOMES["value"]
    assert read(fits) == (fits, "value")
    event, _ = read(ev.CallbackEnded(at=START, callback="callback:1", result=b"17"))
    assert event.result is None
    assert event.failure is not None
    assert "Expected `str`, got `int`" in event.failure.message
    for other in (OUTCOMES["CallbackFailed: no"], ev.CallbackEnded(START, "callback:9", result=b"1")):
        assert read(other)[0] is other


def test_waits_tell_of_open_callbacks() -> None:
    beating = ev.CallbackOpened(at=START, op="callback:2", heartbeat=2.0)
    history: list[ev.Event] = [started(), OPENED, beating]
    first, second = waits(history)
    assert (first.kind, first.id, first.since, first.until) == ("callback", "callback:1", START, START + 60)
    assert (second.until, second.detail) == (None, "heartbeat every 2 s at least")
    assert [wait.id for wait in waits([*history, OUTCOMES["value"]])] == ["callback:2"]


def test_names_follow_the_task() -> None:
    async def two() -> None:
        async def one() -> None:
            await perdure.callback()

        await asyncio.gather(one(), one(), perdure.callback())

    simulation = simulation_of(two)
    simulation.begin(started())
    asked = [
        command.id for command in simulation.machine.take_commands() if isinstance(command, AwaitCallback)
    ]
    assert sorted(asked) == ["1/callback:1", "2/callback:1", "callback:1"]
