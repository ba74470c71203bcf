"""Carries out what workflow code has asked for: from each command to the work, the event or the request it means.

Commands come here only after the whole history is fed, so each is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.commands import (
    CancelOperation,
    Command,
    ConcludeStep,
    Finish,
    RunStep,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.machine import Machine
from perdure.core.matching import fingerprint
from perdure.runtime.definitions import RECORD_INPUTS_MAX, WorkflowDefinition
from perdure.runtime.endings import Last, last_event
from perdure.runtime.host import Host
from perdure.runtime.work import Work
from perdure.storage.records import Effect, NewRun


class Run(Protocol):
    """The run whose code has asked."""

    id: str
    machine: Machine
    definition: WorkflowDefinition

    @property
    def host(self) -> Host[Any]: ...
    @property
    def work(self) -> Work: ...
    def now(self) -> float: ...
    def ride(self, note: ev.Event) -> None: ...
    def write_down(self, event: Any, effects: Sequence[Effect] = ..., child: NewRun | None = ...) -> None: ...
    def end(self, last: Last) -> None: ...


def carry_out(run: Run, commands: Sequence[Command]) -> None:
    """Do all of it, in the order asked."""
    for command in commands:
        _WAYS[type(command)](run, command)


def _start_step(run: Run, command: RunStep) -> None:
    run.work.start_step(command)


def _start_timer(run: Run, command: StartTimer) -> None:
    run.work.start_timer(command)


def _start_child(run: Run, command: StartChild) -> None:
    data = command.input
    whole = len(data) <= RECORD_INPUTS_MAX
    event = ev.ChildStarted(
        at=run.now(),
        child=command.id,
        run=command.run_id,
        workflow=command.workflow,
        on_parent_close=command.on_parent_close,
        input=data if whole else None,
        fingerprint=None if whole else fingerprint(data),
    )
    run.write_down(event, child=run.host.child_run(run, command))
    run.host.watch(run, command)


def _write_down(run: Run, command: WriteDown) -> None:
    run.write_down(command.record, command.effects)


def _cancel(run: Run, command: CancelOperation) -> None:
    operation = command.operation
    if isinstance(operation, StartChild):
        run.host.cancel_run(operation.run_id, f"run {run.id!r} gave up waiting for it")
    else:
        if isinstance(operation, RunStep) and operation.call.options.on_cancel == "abandon":
            run.work.abandon(operation)
        else:
            run.work.cancel(operation)
        if operation.noted or (isinstance(operation, RunStep) and operation.parked is not None):
            run.ride(ev.OperationDropped(run.now(), operation.id))


def _conclude(run: Run, command: ConcludeStep) -> None:
    run.work.conclude(command.operation)


def _finish(run: Run, command: Finish) -> None:
    limit = run.host.max_payload
    run.end(last_event(command, run.machine, run.definition, now=run.now(), max_payload=limit))


_WAYS: dict[type[Any], Callable[[Run, Any], None]] = {
    RunStep: _start_step,
    StartTimer: _start_timer,
    StartChild: _start_child,
    WriteDown: _write_down,
    CancelOperation: _cancel,
    ConcludeStep: _conclude,
    Finish: _finish,
}
