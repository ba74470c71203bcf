"""Lets a run's code go on with one event, and blocks the run if that can't be."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, Protocol

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.errors import NonDeterminismError, PerdureError, TurnLimitError, UndecodableError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.host import Host
from perdure.runtime.turns import TurnInterrupt


class Run(Protocol):
    """The run's driver."""

    gone: bool
    machine: Machine
    definition: WorkflowDefinition

    @property
    def host(self) -> Host[Any]: ...
    def block(self, error: Exception, where: str = "") -> None: ...


class Replaying(Run, Protocol):
    """One that comes into memory."""

    def recall(self, event: ev.Event) -> None:
        """Have an event of its history fed to the machine."""
        ...


def feed(run: Run, event: ev.Event, value: Any = UNSET) -> None:
    """Feed an event to a run that is still driven here.

    Args:
        value: the decoded result, if it is at hand; of the first event, the time of the first activation.
    """
    if run.gone:
        return
    machine, turns = run.machine, run.host.turns
    try:
        turns.of(machine, run.definition.guard)
        try:  # a `with` takes a microsecond more, a hundredth of a step's CPU
            if type(event) is ev.RunStarted:
                machine.begin(event, value)
            else:
                machine.feed(event, value)
        finally:
            turns.over()
    except BaseException as error:  # noqa: BLE001 - what isn't the run's is raised again
        _end(run, error)


def replay(run: Replaying, history: Sequence[bytes]) -> None:
    """Feed a part of the history of a run that comes into memory.

    All of it goes in one frame: a frame around each event is a fifth of a replay's cost.
    """
    turns = run.host.turns
    try:
        with turns.of(run.machine, run.definition.guard):
            run.machine.loop.enter()
            for data in history:
                event = decode_event(data)
                turns.again()
                run.recall(event)
    except BaseException as error:  # noqa: BLE001 - what isn't the run's is raised again
        _end(run, error)


def _end(run: Run, error: BaseException) -> None:
    """The code can't go on: block the run."""
    turns = run.host.turns
    match error:
        case TurnInterrupt():
            turns.over()
            run.block(run.machine.turn_limit_error(), turns.place)
        case TurnLimitError():
            run.block(error, turns.place)
        case NonDeterminismError() | UndecodableError():
            run.block(error)
        case Exception():  # the engine's own: no other run may suffer from it
            told = "".join(traceback.format_exception(error))
            run.block(PerdureError(f"the engine itself failed on this run:\n{told}"))
        case _:
            raise error
