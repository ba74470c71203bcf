"""Handlers on a bare machine: updates replay as everything else does, and a look changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import perdure
from helpers.simulation import SEED, START, do
from perdure.codec.failures import step_exception
from perdure.core import events as ev
from perdure.core.commands import Finish, RunStep, WriteDown
from perdure.core.machine import Machine
from perdure.core.reading import look
from perdure.errors import NonDeterminismError, ReadOnlyError
from perdure.runtime.outcomes import child_error


async def updated() -> list[str]:
    seen: list[str] = []
    closed = asyncio.Event()

    @perdure.on_update
    async def add(label: str) -> int:
        seen.append(f"{label} begins")
        both = await asyncio.gather(do(label), asyncio.ensure_future(nested(label)))
        seen.append(" ".join(both))
        return len(seen)

    async def nested(label: str) -> str:
        return await do(f"nested {label}")

    @perdure.on_update
    def close() -> str:
        closed.set()
        return "closed"

    @perdure.on_query
    def state() -> list[str]:
        return seen

    seen.append(await do("first"))
    await closed.wait()
    return seen


def accepted(update: str, name: str, input: bytes = b"[[],{}]") -> ev.UpdateAccepted:
    return ev.UpdateAccepted(at=START, update=update, name=name, input=input)


def completed(step: str, label: str) -> ev.StepCompleted:
    return ev.StepCompleted(
        at=START,
        step=step,
        attempt=1,
        started_at=START,
        result=f'"{label}"'.encode(),
        input=f'[["{label}"],{{}}]'.encode(),
    )


HISTORY: list[ev.Event] = [
    accepted("update[a]", "add", b'[["a"],{}]'),
    completed("do#1", "first"),
    accepted("update[b]", "add", b'[["b"],{}]'),
    completed("u2/do#1", "b"),
    completed("u1.1/do#1", "nested a"),
    completed("u2.1/do#1", "nested b"),
    ev.UpdateCompleted(at=START, op="update[b]", result=b"4"),
    completed("u1/do#1", "a"),
    ev.UpdateCompleted(at=START, op="update[a]", result=b"5"),
    accepted("update[c]", "close"),
    ev.UpdateCompleted(at=START, op="update[c]", result=b'"closed"'),
    ev.RunCompleted(at=START, result=b"[]"),
]
ENDED = ["a begins", "first", "b begins", "b nested b", "a nested a"]


def machine(history: Sequence[ev.Event] = ()) -> Machine:
    made = Machine("r", "w", lambda _: updated(), step_exception, child_error, 1_000_000)
    made.begin(ev.RunStarted(at=START, workflow="w", input=b"", seed=SEED), START)
    try:
        for event in history:
            made.feed(event)
    except NonDeterminismError:
        made.close()
        raise
    return made


def asked(commands: Sequence[Any]) -> list[str]:
    """What the code asked for: ids of steps, records, and the end."""
    told: list[str] = []
    for command in commands:
        match command:
            case RunStep():
                told.append(command.id)
            case WriteDown():
                told.append(command.record.op)
            case Finish():
                told.append(f"ended: {command.value}")
            case _:
                told.append(type(command).__name__)
    return told


def test_updates_have_scopes_of_their_own_and_leave_records() -> None:
    run = machine()
    told = [asked(run.take_commands())]
    for event in HISTORY:
        run.feed(event)
        told.append(asked(run.take_commands()))
    assert told == [
        ["do#1"],
        ["u1.1/do#1", "u1/do#1"],
        [],
        ["u2.1/do#1", "u2/do#1"],
        [],
        [],
        ["update[b]"],
        [],
        ["update[a]"],
        [],
        ["update[c]", f"ended: {ENDED}"],
        [],
        [],
    ]
    run.close()


@pytest.mark.parametrize("length", range(len(HISTORY) + 1))
def test_updates_replay_from_every_prefix(length: int) -> None:
    """What isn't in the history yet is asked for again, and the rest leads to the same end."""
    run = machine(HISTORY[:length])
    again = asked(run.take_commands())
    known = {getattr(event, "step", getattr(event, "op", None)) for event in HISTORY[:length]}
    assert not known & set(again)
    for event in HISTORY[length:]:
        run.feed(event)
        again += asked(run.take_commands())
    if length < len(HISTORY):
        assert again[-1] == f"ended: {ENDED}"
    run.close()


def test_a_history_that_the_handlers_dont_fit_is_refused() -> None:
    for history, why in (
        ([accepted("u", "nope")], "update 'u' of handler 'nope' was accepted"),
        ([ev.UpdateCompleted(at=START, op="u", result=b"1")], "UpdateCompleted 'u'"),
        ([*HISTORY[:6], ev.UpdateCompleted(at=START, op="update[b]", result=b"3")], "result=3"),
        ([*HISTORY, accepted("late", "close")], "the workflow function has ended"),
    ):
        with pytest.raises(NonDeterminismError, match=why):
            machine(history)


def test_a_look_changes_nothing_and_ordinary_turns_go_on() -> None:
    run = machine(HISTORY[:3])
    run.take_commands()
    assert run.handlers is not None
    state = run.handlers.queries["state"]
    assert look(run, lambda: state.answer(b"[[],{}]"))[1] == ["a begins", "first", "b begins"]
    for acts in (
        lambda: asyncio.get_running_loop().create_future(),
        lambda: asyncio.get_running_loop().call_later(1, print),
        lambda: run.random(),
        lambda: run.handle_queries("x", state),
        lambda: perdure.uuid4(),
    ):
        with pytest.raises(ReadOnlyError, match="a query handler or validator of run 'r'"):
            look(run, acts)
    with pytest.raises(ZeroDivisionError):
        look(run, lambda: 1 / 0)
    assert type(run) is Machine
    assert run.take_commands() == []
    for event in HISTORY[3:]:
        run.feed(event)
    run.close()
