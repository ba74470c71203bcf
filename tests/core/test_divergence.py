"""Changed code is noticed at the first event that doesn't fit, before anything new is asked of the world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

import perdure
from helpers.simulation import Boom, Simulation, child, do, other, replayed, simulate
from perdure.core import events as ev
from perdure.core.commands import Ending
from perdure.core.finding import fingerprint
from perdure.errors import NonDeterminismError, UndecodableError

Program = Callable[[], Coroutine[Any, Any, Any]]


async def original() -> str:
    a = await do("a")
    await asyncio.sleep(10)
    b, c = await asyncio.gather(do("b", 3.0), other("c"))
    try:
        await do("d", fails="Boom")
    except Boom:
        pass
    await child("e")
    return a + b + c


def _changed() -> dict[str, tuple[Program, int]]:
    """Name of a change -> the changed code, and the first event (from 1) that can't fit."""
    changes: dict[str, tuple[Program, int]] = {}

    def change(at: int) -> Callable[[Program], Program]:
        def note(program: Program) -> Program:
            changes[program.__name__] = (program, at)
            return program

        return note

    async def rest() -> str:
        b, c = await asyncio.gather(do("b", 3.0), other("c"))
        try:
            await do("d", fails="Boom")
        except Boom:
            pass
        await child("e")
        return b + c

    @change(2)
    async def a_step_inserted_first() -> str:
        await other("new")
        await do("a")
        await asyncio.sleep(10)
        return await rest()

    @change(3)
    async def a_step_inserted() -> str:
        await do("a")
        await do("new")
        await asyncio.sleep(10)
        return await rest()

    @change(2)
    async def a_step_removed() -> str:
        await asyncio.sleep(10)
        return await rest()

    @change(2)
    async def a_step_renamed() -> str:
        await other("a")
        await asyncio.sleep(10)
        return await rest()

    @change(2)
    async def an_argument_changed() -> str:
        await do("A")
        await asyncio.sleep(10)
        return await rest()

    @change(2)
    async def swapped_with_a_timer() -> str:
        await asyncio.sleep(10)
        await do("a")
        return await rest()

    @change(3)
    async def a_timer_became_a_step() -> str:
        await do("a")
        await other("instead of sleeping")
        return await rest()

    @change(3)
    async def returns_early() -> str:
        return await do("a")

    @change(3)
    async def raises_early() -> str:
        await do("a")
        raise ValueError

    @change(3)
    async def waits_for_nothing() -> str:
        await do("a")
        await asyncio.Event().wait()
        return ""

    @change(5)
    async def swapped_in_gather() -> str:
        await do("a")
        await asyncio.sleep(10)
        await asyncio.gather(other("b"), do("c"))
        return ""

    @change(9)
    async def handler_gone() -> str:
        await do("a")
        await asyncio.sleep(10)
        await asyncio.gather(do("b", 3.0), other("c"))
        await do("d", fails="Boom")
        return await child("e")

    @change(9)
    async def a_child_became_a_step() -> str:
        await do("a")
        await asyncio.sleep(10)
        await asyncio.gather(do("b", 3.0), other("c"))
        try:
            await do("d", fails="Boom")
        except Boom:
            pass
        return await other("e")

    @change(9)
    async def a_childs_argument_changed() -> str:
        await do("a")
        await asyncio.sleep(10)
        await asyncio.gather(do("b", 3.0), other("c"))
        try:
            await do("d", fails="Boom")
        except Boom:
            pass
        return await child("E")

    @change(2)
    async def moved_into_a_task() -> str:
        async def inner() -> str:
            return await do("a")

        await asyncio.create_task(inner())
        return ""

    return changes


CHANGES = _changed()


@pytest.mark.parametrize("name", CHANGES)
def test_changed_code_is_refused_at_the_first_event_that_does_not_fit(name: str) -> None:
    history = simulate(original).history
    assert [type(event).__name__ for event in history] == [
        "RunStarted",
        "StepCompleted",
        "TimerStarted",
        "TimerFired",
        "StepCompleted",
        "StepCompleted",
        "StepFailed",
        "ChildStarted",
        "ChildEnded",
    ]
    program, at = CHANGES[name]
    if at == 9:
        at = 8
    simulation = Simulation(program)
    with pytest.raises(NonDeterminismError) as caught:
        simulation.replay(history)
    assert len(simulation.history) == at, "at another event than the first that doesn't fit"
    assert simulation.asked == [], "nothing was handed out before"
    text = str(caught.value)
    assert f"disagree at event {at}" in text
    assert "history says:" in text
    assert "code says:" in text
    assert "what to do:" in text
    if name not in {"returns_early", "raises_early", "handler_gone"}:
        assert "test_divergence.py:" in text
    simulation.machine.close()


def test_the_report_names_both_sides_and_the_line() -> None:
    async def before() -> None:
        await do("a")
        await do("b")

    async def after() -> None:
        await do("a")
        await other("b")  # this line

    with pytest.raises(NonDeterminismError) as caught:
        replayed(after, simulate(before).history)
    text = str(caught.value)
    assert "history says: step 'do#2' completed" in text
    assert "code says:    waits for step 'other#1'" in text
    line = after.__code__.co_firstlineno + 2
    assert f"test_divergence.py:{line}, in after" in text


def test_changed_arguments_are_shown() -> None:
    async def before() -> None:
        await do("old text")

    async def after() -> None:
        await do("new text")

    with pytest.raises(NonDeterminismError) as caught:
        replayed(after, simulate(before).history)
    assert "old text" in str(caught.value)
    assert "new text" in str(caught.value)


def test_another_workflows_history_is_refused() -> None:
    simulation = Simulation(original)
    with pytest.raises(NonDeterminismError, match=r"recorded by workflow 'other\.name'"):
        simulation.begin(ev.RunStarted(at=0.0, workflow="other.name", input=b"", seed=b""))


def test_a_result_of_another_type_blocks() -> None:
    async def main() -> str:
        return await do("a")

    history = simulate(main).history
    completed = history[1]
    assert isinstance(completed, ev.StepCompleted)
    broken = ev.StepCompleted(
        at=completed.at, step="do#1", attempt=1, started_at=0.0, result=b'{"no": "string"}'
    )
    with pytest.raises(UndecodableError):
        replayed(main, [history[0], broken])


def test_what_the_history_has_not_reached_may_change() -> None:
    async def longer() -> str:
        a = await do("a")
        await asyncio.sleep(10)
        await do("entirely new")
        return a

    history = simulate(original).history
    assert replayed(longer, history[:4]).asked == ["do#2"]


def test_a_second_start_is_refused() -> None:
    history = simulate(original).history
    with pytest.raises(NonDeterminismError):
        replayed(original, [history[0], history[1], history[0]])


def test_notes_that_do_not_fit_are_refused_too() -> None:
    for note in (
        ev.StepStarted(at=1.0, step="other#1", attempt=1),
        ev.TimerStarted(at=1.0, timer="timer:9", due=5.0),
        ev.ChildStarted(at=1.0, child="child#9", run="x", workflow="child"),
    ):
        with pytest.raises(NonDeterminismError):
            replayed(original, [simulate(original).history[0], note])


def test_a_key_used_twice_at_once_is_the_codes_mistake() -> None:
    from perdure.errors import UsageError

    async def main() -> None:
        keyed = do.with_options(key="k")
        await asyncio.gather(keyed("a"), keyed("b"))

    live = simulate(main)
    assert isinstance(live.error, UsageError)
    assert "do[k]" in str(live.error)


def test_changed_arguments_that_are_too_large_to_be_kept_are_refused() -> None:
    """Of such the history has a fingerprint only."""

    async def before() -> None:
        await do("old text")

    async def after() -> None:
        await do("new text")

    history = simulate(before).history
    completed = history[1]
    assert isinstance(completed, ev.StepCompleted)
    assert completed.input is not None
    digest = fingerprint(completed.input)
    history[1] = msgspec.structs.replace(completed, input=None, fingerprint=digest)
    assert replayed(before, history).ending is Ending.RETURNED
    with pytest.raises(NonDeterminismError, match="disagree at event 2"):
        replayed(after, history)


@pytest.mark.parametrize("field", ["stream", "payload"])
def test_what_the_code_puts_out_must_be_the_same_again(field: str) -> None:
    """It has no outcome, so nothing else would tell."""

    async def before() -> None:
        perdure.emit("news", "old")
        await do("a")

    async def after() -> None:
        perdure.emit("news" if field == "payload" else "gossip", "new" if field == "payload" else "old")
        await do("a")

    history = simulate(before).history
    assert [type(event) for event in history[1:]] == [ev.Emitted, ev.StepCompleted]
    assert replayed(before, history).ending is Ending.RETURNED
    with pytest.raises(NonDeterminismError, match="disagree at event 2"):
        replayed(after, history)


def test_what_the_code_puts_out_may_come_at_another_time() -> None:
    async def main() -> None:
        perdure.emit("news", "old")
        await do("a")

    history = simulate(main).history
    history[1] = msgspec.structs.replace(history[1], at=history[1].at + 0.5)
    assert replayed(main, history).ending is Ending.RETURNED


def test_the_code_s_time_never_goes_back() -> None:
    """Whatever clock an event's writer had."""
    seen: list[float] = []

    async def main() -> None:
        for label in "abc":
            await do(label)
            seen.append(perdure.now().timestamp())

    history = simulate(main).history
    seen.clear()
    first, *steps = history
    back = [msgspec.structs.replace(event, at=steps[0].at - number) for number, event in enumerate(steps)]
    assert replayed(main, [first, *back]).ending is Ending.RETURNED
    assert seen == [steps[0].at] * 3
