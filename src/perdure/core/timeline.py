"""Reads a history the other way round: not to rebuild a run, but to tell people what it is doing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from perdure.core import events as ev
from perdure.core.where import told as conditions

#: What a step's history may end with while its outcome is still to come.
_Undecided: TypeAlias = ev.StepStarted | ev.StepSent | ev.StepAttemptFailed | ev.StepDelayed | ev.StepParked


class Wait(msgspec.Struct, frozen=True):
    """Something a run is waiting for.

    Attributes:
        kind: "step", "retry", "limit", "decision" (of a person), "refused" (in a counterfactual run), "budget",
            "timer", "child", "message", "callback", "question" (to a person), "event" or "update".
        id: the operation's id within the run; the message's or event's name.
        since: wall-clock seconds.
        until: when it will be over at the latest, if that is known.
        run: of a step that was sent to a queue: the errand's id.
        budget: of a step that waits for money: whose.
        detail: the child's run id, the rate limit's name, the update's handler, the last attempt's error, how often a
            callback has to be heard of, what a person is asked, or which of the events named so fit.
        question: the id by which a person answers.
        heartbeat: JSON of what the step's newest heartbeat told, as far as that is written down.
        heard_at: when that was, wall-clock seconds.
    """

    kind: str
    id: str
    since: float
    until: float | None = None
    detail: str = ""
    heartbeat: bytes | None = None
    heard_at: float | None = None
    run: str = ""
    budget: ev.Overdrawn | None = None
    question: str = ""


def wait_named(since: float) -> str:
    """How people name a wait among those of a step: by when it began, as ISO 8601 has it.

    >>> wait_named(1764417603.4829154)
    '2025-11-29T12:00:03.482915Z'
    """
    return f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def is_since(wait: float, named: float) -> bool:
    """Whether that is the wait which somebody means. Moments are told in microseconds, and recorded more finely."""
    return abs(wait - named) < 2e-6


def with_heartbeat(wait: Wait, told: tuple[bytes, float] | None) -> Wait:
    """The same wait, and what the step's newest heartbeat told and when."""
    return wait if told is None else msgspec.structs.replace(wait, heartbeat=told[0], heard_at=told[1])


def waits(history: Iterable[ev.Event]) -> list[Wait]:
    """What a run waits for, as far as its history tells, oldest first.

    Steps and timers shorter than 100 ms leave no trace before they are over.
    """
    waiting: dict[str, Wait] = {}
    served: dict[str, tuple[str, Wait]] = {}  # which wait a message ended, unless it is set aside
    for number, event in enumerate(history, 1):
        match event:
            case ev.MessageAwaited():
                waiting[event.receive] = Wait("message", event.name, event.at)
            case ev.MessageReceived():
                if (first := _first_receiver(waiting, event.name)) is not None:
                    served[f"message:{number}"] = first, waiting.pop(first)
            case ev.MessageSetAside():
                if (again := served.pop(event.op, None)) is not None:
                    waiting[again[0]] = again[1]
            case (
                ev.StepStarted() | ev.StepSent() | ev.StepAttemptFailed() | ev.StepDelayed() | ev.StepParked()
            ):
                waiting[event.step] = _step(event)
            case ev.StepCompleted() | ev.StepFailed() | ev.StepRerun():
                waiting.pop(event.step, None)
            case ev.TimerStarted():
                waiting[event.timer] = Wait("timer", event.timer, event.at, event.due)
            case ev.TimerFired():
                waiting.pop(event.timer, None)
            case ev.OperationDropped():
                waiting.pop(event.operation, None)
            case ev.ChildStarted():
                waiting[event.child] = Wait("child", event.child, event.at, detail=event.run)
            case ev.ChildEnded():
                waiting.pop(event.child, None)
            case ev.UpdateAccepted():
                waiting[f"update {event.update}"] = Wait("update", event.update, event.at, detail=event.name)
            case ev.UpdateCompleted():
                waiting.pop(f"update {event.op}", None)
            case ev.CallbackOpened():
                waiting[event.op] = _callback(event)
            case ev.CallbackEnded():
                waiting.pop(event.callback, None)
            case ev.PublicationAwaited():
                if event.op not in waiting:  # else it is the same wait, after what couldn't be read
                    until = None if event.timeout is None else event.at + event.timeout
                    waiting[event.op] = Wait("event", event.name, event.at, until, conditions(event.where))
            case ev.PublicationArrived() if event.unread is None:
                waiting.pop(event.wait, None)
            case ev.PublicationGivenUp() | ev.QuestionWithdrawn():
                waiting.pop(event.op, None)
            case (
                ev.RunCompleted()
                | ev.RunFailed()
                | ev.RunCancelled()
                | ev.RunTerminated()
                | ev.RunContinued()
            ):
                waiting.clear()
            case _:
                pass
    return list(waiting.values())


def _step(event: _Undecided) -> Wait:
    """What a step waits for after this."""
    match event:
        case ev.StepStarted():
            return Wait("step", event.step, event.at, detail=f"attempt {event.attempt}")
        case ev.StepSent():
            told = f"attempt {event.attempt}, sent to queue {event.queue!r}"
            return Wait("step", event.step, event.at, detail=told, run=event.run)
        case ev.StepAttemptFailed():
            told = f"attempt {event.attempt} failed: {event.failure.type}: {event.failure.message}"
            return Wait("retry", event.step, event.at, event.retry_at, told)
        case ev.StepDelayed():
            return Wait("limit", event.step, event.at, event.until, event.limit)
        case ev.StepParked(budget=ev.Overdrawn() as budget):
            return Wait("budget", event.step, event.at, budget.until, event.why, budget=budget)
        case ev.StepParked():
            return Wait("refused" if event.refused else "decision", event.step, event.at, detail=event.why)


def _callback(event: ev.CallbackOpened) -> Wait:
    until = None if event.timeout is None else event.at + event.timeout
    if isinstance(event, ev.QuestionAsked):
        asked = event.question
        return Wait("question", event.op, event.at, until, asked.text, question=asked.id)
    told = "" if event.heartbeat is None else f"heartbeat every {event.heartbeat:g} s at least"
    return Wait("callback", event.op, event.at, until, told)


def _first_receiver(waiting: dict[str, Wait], name: str) -> str | None:
    return next((op for op, wait in waiting.items() if wait.kind == "message" and wait.id == name), None)


def set_aside(history: Iterable[ev.Event]) -> list[tuple[int, str]]:
    """The numbers of the messages that a run set aside, and why."""
    records = (event for event in history if isinstance(event, ev.MessageSetAside))
    return [(int(event.op.rpartition(":")[2]), event.why) for event in records]


def unread(history: Sequence[ev.Event]) -> tuple[int, ...]:
    """The numbers of the messages that a run hadn't received when it ended."""
    last = history[-1] if history else None
    if isinstance(last, ev.RunCompleted | ev.RunFailed | ev.RunCancelled | ev.RunTerminated):
        return last.unread
    return ()
