"""Machines for runs: those that are driven here, and scratch ones that are only looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from perdure.codec.events import decode_event
from perdure.codec.failures import step_exception
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.entities import from_checkpoint
from perdure.runtime.outcomes import child_error
from perdure.runtime.past import past_of
from perdure.runtime.soundness import refuse_damaged
from perdure.runtime.takeover import first_moment
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.storage.records import History, RunRow

#: By which its encoded form is recognised: replay must look for it in a whole history before it begins.
_SET_ASIDE = b"message_set_aside"

REPLAY_SLICE = 500  #: events replayed before other runs get their turn


def new_machine(id: str, definition: WorkflowDefinition, max_payload: int) -> Machine:
    """A machine for a run, before its first event."""
    return Machine(id, definition.name, definition.begin, step_exception, child_error, max_payload)


async def replayed(
    row: RunRow, definition: WorkflowDefinition, history: History, turns: Turns, max_payload: int
) -> Machine:
    """A machine in the state to which a history leads. Nothing that its code asks for is carried out.

    Raises:
        NonDeterminismError, UndecodableError, TurnLimitError: the code doesn't get there.
        DamagedHistoryError: the history isn't what was recorded.
    """
    refuse_damaged(row.id, history)
    history = from_checkpoint(definition, history)
    machine = new_machine(row.id, definition, max_payload)
    expect(machine, history)
    try:
        for start in range(0, len(history.events), REPLAY_SLICE):
            events = map(decode_event, history.events[start : start + REPLAY_SLICE])
            feed_recorded(machine, definition, events, row.started_at or row.created_at, turns)
            await asyncio.sleep(0)
    except TurnInterrupt:
        turns.over()
        let_go(machine, turns)
        raise machine.turn_limit_error() from None
    except BaseException:
        let_go(machine, turns)
        raise
    return machine


def expect(machine: Machine, history: History) -> None:
    """Let a machine know what it will be fed."""
    machine.replaying = True
    machine.look_ahead = lambda: set_aside_in(history.events)
    machine.past = past_of(history)


def feed_recorded(
    machine: Machine,
    definition: WorkflowDefinition,
    events: Iterable[ev.Event],
    began: float,
    turns: Turns,
) -> None:
    """Feed a part of a history. `began` is when the run was first driven, or created."""
    with turns.of(machine, definition.guard):
        machine.loop.enter()
        for event in events:
            turns.again()
            if isinstance(event, ev.RunStarted):
                machine.begin(event, first_moment(event, began))
            else:
                machine.feed(event)


def set_aside_in(history: Sequence[bytes]) -> dict[int, str]:
    """The numbers of the messages that a run set aside, and why."""
    found: dict[int, str] = {}
    for data in history:
        if _SET_ASIDE in data:  # or it is in a payload: the event is looked at
            event = decode_event(data)
            if isinstance(event, ev.MessageSetAside):
                found[int(event.op.rpartition(":")[2])] = event.why
    return found


def let_go(machine: Machine, turns: Turns) -> None:
    """Unwind a machine's code without any effect."""
    try:
        with turns.of(machine, guarded=False):
            machine.close()
    except TurnInterrupt:  # by a `finally` block that spins; it is unwound now
        turns.over()
