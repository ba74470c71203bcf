"""Carries out what workflow code has asked for: from each command to the work, the event or the request it means.

Commands come here only after the whole history is fed, so each is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    AwaitPublication,
    CancelOperation,
    Command,
    ConcludeStep,
    Finish,
    Operation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.finding import fingerprint
from perdure.core.machine import Machine
from perdure.core.namespaces import short
from perdure.runtime.announcing import announcement
from perdure.runtime.definitions import RECORD_INPUTS_MAX, WorkflowDefinition
from perdure.runtime.endings import Last, last_event
from perdure.runtime.host import Host
from perdure.runtime.work import Work
from perdure.storage.callbacks import OpenCallback, pack_question
from perdure.storage.effects import Effect
from perdure.storage.publications import OpenWait
from perdure.storage.records import NewRun


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


def carry_out(run: Run, commands: Sequence[Command]) -> list[Command] | None:
    """Do all of it, in the order asked.

    Returns:
        What has to wait until this activation's records are durable, None if nothing has. If a callback is
        opened, that is all that comes after it: a step could take its token out of here before it is known.
    """
    for place, command in enumerate(commands):
        if type(command) is RunStep:  # nearly all are
            run.work.start_step(command)
        elif type(command) is AwaitCallback and not command.recorded:
            return _hold(run, commands[place:])
        else:
            _WAYS[type(command)](run, command)
    return None


def still_wanted(run: Run, held: Sequence[Command]) -> list[Command]:
    """What was held, without what the code has given up meanwhile."""
    operations = run.machine.operations
    return [
        command
        for command in held
        if not isinstance(command, Operation) or operations.get(command.id) is command
    ]


def _hold(run: Run, commands: Sequence[Command]) -> list[Command]:
    """Write down what the code did, and let everything else wait for that to be durable."""
    held: list[Command] = []
    for command in commands:
        if isinstance(command, WriteDown):
            _write_down(run, command)
            continue
        if isinstance(command, AwaitCallback) and not command.written:
            command.written = True  # an append that was on its way already may bring us here once more
            _open_callback(run, command)
        held.append(command)
    return held


def _open_callback(run: Run, command: AwaitCallback) -> None:
    now = run.now()
    opened = ev.CallbackOpened(at=now, op=command.id, timeout=command.timeout, heartbeat=command.heartbeat)
    question = command.question
    if question is not None:
        opened = ev.QuestionAsked(at=now, op=command.id, timeout=command.timeout, question=question)
    effect = OpenCallback(
        token_hash=command.token_hash,
        op=command.id,
        opened_at=now,
        expires_at=None if command.timeout is None else now + command.timeout,
        heartbeat=command.heartbeat,
        question=None if question is None else pack_question(question),
    )
    if command.presumed is not None:
        run.write_down(opened)
        return
    more = [] if question is None else announcement(run.machine, question, now, effect.expires_at)
    run.write_down(opened, [effect, *more])


def _watch_callback(run: Run, command: AwaitCallback) -> None:
    if command.presumed is not None:
        now = run.now()
        run.write_down(
            ev.QuestionAnswered(
                at=now, callback=command.id, result=command.presumed, answered_at=now, presumed=True
            )
        )
        return
    limits = [limit for limit in (command.timeout, command.heartbeat) if limit is not None]
    run.work.watch_callback(command, command.opened_at + min(limits) if limits else None)


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


def _await_message(run: Run, command: AwaitMessage) -> None:
    run.host.watch(run, command)


def _await_publication(run: Run, command: AwaitPublication) -> None:
    if not command.recorded:
        event = ev.PublicationAwaited(
            at=run.now(),
            op=command.id,
            name=command.name,
            where=command.where,
            since=command.since,
            after=command.after,
            timeout=command.timeout,
        )
        wait = OpenWait(command.id, command.name, command.where, command.since, command.after)
        run.write_down(event, [wait])
    run.host.watch(run, command)


def _send_message(run: Run, command: SendMessage) -> None:
    run.host.send_message(run, command)


def _write_down(run: Run, command: WriteDown) -> None:
    run.write_down(command.record, command.effects)


def _cancel(run: Run, command: CancelOperation) -> None:
    operation = command.operation
    if isinstance(operation, RunStep) and operation.sent is not None:
        run.work.give_up(operation)
    elif isinstance(operation, StartChild):
        run.host.cancel_run(run, operation, f"run {short(run.id)!r} gave up waiting for it")
    else:
        if isinstance(operation, RunStep) and operation.call.options.on_cancel == "abandon":
            run.work.abandon(operation)
        else:
            run.work.cancel(operation)
        held = isinstance(operation, RunStep) and (operation.parked or operation.delay) is not None
        if operation.noted or held:
            run.ride(ev.OperationDropped(run.now(), operation.id))


def _conclude(run: Run, command: ConcludeStep) -> None:
    run.work.conclude(command.operation)


def _finish(run: Run, command: Finish) -> None:
    limit = run.host.max_payload
    run.end(last_event(command, run.machine, run.definition, now=run.now(), max_payload=limit))


_WAYS: dict[type[Any], Callable[[Run, Any], None]] = {
    StartTimer: _start_timer,
    StartChild: _start_child,
    AwaitMessage: _await_message,
    AwaitPublication: _await_publication,
    SendMessage: _send_message,
    WriteDown: _write_down,
    CancelOperation: _cancel,
    ConcludeStep: _conclude,
    Finish: _finish,
    AwaitCallback: _watch_callback,
}
