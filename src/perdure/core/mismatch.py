"""Explains to a person how a history and the code that should fit it disagree.

A replay is refused at the first event that the code, as it is now, didn't ask for. The report puts the
two side by side, with the source line at which each task of the run stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from perdure.core import events as ev
from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    AwaitPublication,
    Operation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
)
from perdure.core.loop import WorkflowLoop
from perdure.errors import NonDeterminismError

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ASYNCIO = os.path.dirname(os.path.abspath(os.__file__)) + os.sep + "asyncio" + os.sep
_SHOWN = 200  # characters of a payload, and
_LISTED = 6  # operations, in a report

ADVICE = (
    "The run is blocked and nothing of it is lost. Deploy code that fits its history (the old version, or "
    "the change made compatible), and it goes on by itself."
)


def location(coroutine: Any) -> str:
    """`file:line, in function` of the innermost user frame of a suspended coroutine, "" if none is found."""
    found = ""
    while coroutine is not None:
        frame = (
            getattr(coroutine, "cr_frame", None)
            or getattr(coroutine, "gi_frame", None)
            or getattr(coroutine, "ag_frame", None)
        )
        if frame is not None:
            path = frame.f_code.co_filename
            if not path.startswith((_HERE + os.sep, _ASYNCIO)):
                found = f"{path}:{frame.f_lineno}, in {frame.f_code.co_name}"
        coroutine = (
            getattr(coroutine, "cr_await", None)
            or getattr(coroutine, "gi_yieldfrom", None)
            or getattr(coroutine, "ag_await", None)
        )
    return found


def where(loop: WorkflowLoop) -> list[str]:
    """Where each unfinished task of a run stands."""
    return [place for task in loop.live_tasks() if (place := location(task.get_coro()))]


def describe_event(event: ev.Event) -> str:
    """An event as half a sentence: "step 'app.fetch#2' completed"."""
    match event:
        case ev.StepCompleted():
            return f"step {event.step!r} completed"
        case ev.StepFailed():
            return f"step {event.step!r} failed with {event.failure.type}"
        case ev.StepAttemptFailed():
            return f"attempt {event.attempt} of step {event.step!r} failed with {event.failure.type}"
        case ev.StepStarted():
            return f"step {event.step!r} was started"
        case ev.StepSent():
            return f"attempt {event.attempt} of step {event.step!r} was sent to queue {event.queue!r}"
        case ev.StepDelayed():
            return f"step {event.step!r} waits for the rate limit {event.limit!r}"
        case ev.StepParked():
            return f"step {event.step!r} waits for a person's decision"
        case ev.StepRerun():
            return f"a person decided to run step {event.step!r} again"
        case ev.TimerStarted():
            return f"timer {event.timer!r} was started"
        case ev.TimerFired():
            return f"timer {event.timer!r} fired"
        case ev.OperationDropped():
            return f"the code stopped waiting for {event.operation!r}"
        case ev.ChildStarted():
            return f"child run {event.run!r} of {event.workflow} was started ({event.child!r})"
        case ev.ChildEnded():
            return f"child {event.child!r} ended ({event.status})"
        case ev.UpdateAccepted():
            return f"update {event.update!r} of handler {event.name!r} was accepted"
        case ev.QuestionAsked():
            return f"the question {event.op!r} was asked"
        case ev.QuestionAnswered():
            return f"the question {event.callback!r} was answered"
        case ev.CallbackOpened():
            return f"{event.op!r} was opened"
        case ev.CallbackEnded():
            return f"{event.callback!r} ended"
        case ev.PublicationAwaited():
            return f"the code waited for the event {event.name!r} ({event.op!r})"
        case ev.PublicationArrived():
            return f"the event {event.name!r} came ({event.wait!r})"
        case ev.MessageReceived():
            return f"message {event.name!r} arrived"
        case ev.MessageAwaited():
            return f"the code waited for message {event.name!r} ({event.receive!r})"
        case ev.MessageSent():
            return f"message {event.name!r} was sent to run {event.run!r} ({event.message!r})"
        case ev.MessageRefused():
            return f"message {event.name!r} couldn't be sent to run {event.run!r} ({event.message!r})"
        case ev.Record():
            return f"the code did {type(event).__name__} {event.op!r}"
        case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled() | ev.RunTerminated() | ev.RunContinued():
            return f"the run ended ({type(event).__name__})"
        case _:
            return type(event).__name__


def describe_operation(operation: Operation) -> str:
    """What the code waits for, as half a sentence."""
    match operation:
        case RunStep():
            return f"step {operation.id!r}"
        case StartTimer():
            return f"timer {operation.id!r}"
        case StartChild():
            return f"child run {operation.id!r}"
        case AwaitCallback(question=ev.Question()):
            return f"an answer to {operation.id!r}"
        case AwaitCallback():
            return f"callback {operation.id!r}"
        case AwaitPublication():
            return f"event {operation.name!r} ({operation.id!r})"
        case AwaitMessage():
            return f"message {operation.name!r} ({operation.id!r})"
        case SendMessage():
            return f"message {operation.id!r} to be sent"
        case _:
            return repr(operation.id)


def shown(payload: bytes | None) -> str:
    """A payload, shortened for a report."""
    if payload is None:
        return "(not recorded: too large)"
    text = payload.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + f"... ({len(text)} characters)"


def _refusal(
    run_id: str, seq: int, history_says: str, code_says: str, loop: WorkflowLoop, why: str
) -> NonDeterminismError:
    places = where(loop)[:_LISTED]
    lines = [
        f"run {run_id!r} can't go on: its history and its code disagree at event {seq}",
        f"  history says: {history_says}",
        f"  code says:    {code_says}",
    ]
    lines += [f"  code is at:   {place}" for place in places]
    lines += [f"  why:          {why}", f"  what to do:   {ADVICE}"]
    return NonDeterminismError(
        "\n".join(lines),
        run_id=run_id,
        seq=seq,
        history_says=history_says,
        code_says=code_says,
        places=places,
    )


def unexpected_event(
    run_id: str,
    seq: int,
    event: ev.Event,
    open_operations: Iterable[Operation],
    ended: bool,
    loop: WorkflowLoop,
) -> NonDeterminismError:
    """The history holds something that the code didn't ask for."""
    operations = list(open_operations)
    if ended:
        code_says = "the workflow function has ended"
    elif operations:
        code_says = "waits for " + ", ".join(describe_operation(op) for op in operations[:_LISTED])
        code_says += f" and {len(operations) - _LISTED} more" if len(operations) > _LISTED else ""
    else:
        code_says = "waits for nothing durable"
    why = "the workflow's code was changed, or what it does depends on something that isn't recorded"
    return _refusal(run_id, seq, describe_event(event), code_says, loop, why)


def changed_input(
    run_id: str, seq: int, event: ev.Event, recorded: bytes | None, asked: bytes, loop: WorkflowLoop
) -> NonDeterminismError:
    """The code asks for the same operation with other arguments."""
    history_says = f"{describe_event(event)}, called with {shown(recorded)}"
    why = "the arguments come from changed code, or from something that isn't recorded (time, randomness, set order)"
    return _refusal(run_id, seq, history_says, f"calls it with {shown(asked)}", loop, why)


def changed_address(
    run_id: str, seq: int, event: ev.MessageSent | ev.MessageRefused, asked: SendMessage, loop: WorkflowLoop
) -> NonDeterminismError:
    """The code sends its message to another run, or under another name."""
    code_says = f"sends message {asked.name!r} to run {asked.to!r}"
    why = "the run's id or the message's name come from changed code, or from something that isn't recorded"
    return _refusal(run_id, seq, describe_event(event), code_says, loop, why)


def changed_record(
    run_id: str, seq: int, event: ev.Record, done: ev.Record, loop: WorkflowLoop
) -> NonDeterminismError:
    """The code did something else than its record in the history says."""
    why = "what the code does was changed, or depends on something that isn't recorded (time, randomness, set order)"
    return _refusal(run_id, seq, _told(event), _told(done), loop, why)


def changed_question(
    run_id: str, seq: int, event: ev.CallbackOpened, asked: ev.Question | None, loop: WorkflowLoop
) -> NonDeterminismError:
    """The code asks a person something else than it did, so the answer isn't one to that."""
    why = (
        "an answer counts for the text, the details and the arguments that were shown to whoever gave it; those come "
        "from changed code, or from something that isn't recorded (time, randomness, set order)"
    )
    told = _question(event.question) if isinstance(event, ev.QuestionAsked) else "opens a plain callback"
    code_says = "opens a plain callback" if asked is None else _question(asked)
    return _refusal(run_id, seq, f"{event.op!r} {told}", f"{event.op!r} {code_says}", loop, why)


def _question(question: ev.Question) -> str:
    parts = [f"asks {question.text!r}"]
    if question.details is not None:
        parts.append(f"with details {shown(question.details)}")
    if question.digest is not None:
        parts.append(f"about arguments with the digest {question.digest}")
    return " ".join(parts)


def _told(record: ev.Record) -> str:
    fields = [
        f"{name}={shown(value) if isinstance(value, bytes) else repr(value)}"
        for name in record.__struct_fields__
        if name not in ("at", "op") and (value := getattr(record, name)) is not None
    ]
    return f"{type(record).__name__} {record.op!r} ({', '.join(fields)})"


def changed_workflow(run_id: str, recorded: str, given: str) -> NonDeterminismError:
    """The history belongs to another workflow than the code it is replayed with."""
    return NonDeterminismError(
        f"run {run_id!r} was recorded by workflow {recorded!r} and can't be replayed with {given!r}. {ADVICE}",
        run_id=run_id,
        history_says=f"the run is one of {recorded}",
        code_says=f"is {given}",
    )
