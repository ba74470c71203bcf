"""From a run's history to its spans: what is told of a run, as plain values that know nothing of OpenTelemetry.

A story is fed the events of a run in their order, and gives a span for each attempt of a step when its outcome comes,
and that of the run when it ends. It looks at nothing else, no clock and no chance: so whoever reads the same history
tells the same spans.

    StepAttemptFailed, StepCompleted, ... -> a span of the attempt
    a timer, a message, a take-over, ...  -> an event of the run's span
    RunCompleted, RunFailed, ...          -> the run's span
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from perdure.core import events as ev
from perdure.core.namespaces import short
from perdure.core.scope import operation_name

#: What an attribute may be.
Value: TypeAlias = str | bool | int | float

#: So many events a run's span keeps, the newest ones; SDKs drop what is more.
EVENTS_MAX = 128

#: What shows how a run has ended.
STATUS = {
    ev.RunCompleted: "completed",
    ev.RunFailed: "failed",
    ev.RunCancelled: "cancelled",
    ev.RunTerminated: "terminated",
    ev.RunContinued: "continued",
}


class Moment(msgspec.Struct, gc=False):
    """An event of a span. Times in seconds since the epoch."""

    name: str
    at: float
    attributes: dict[str, Value]


class Span(msgspec.Struct):
    """A span.

    Attributes:
        place: what its id is made of, besides the run: () for the run's own, else step, round and attempt.
        start, end: seconds since the epoch.
        attributes: some of them; the run's own are added to each.
        failure: why it didn't succeed.
        failed: it didn't.
        sent: the attempt was made in another queue.
    """

    place: tuple[str, int, int] | tuple[()]
    name: str
    start: float
    end: float
    attributes: dict[str, Value]
    failure: ev.Failure | None = None
    failed: bool = False
    sent: bool = False
    moments: Sequence[Moment] = ()


class Story:
    """What is told of one run.

    Attributes:
        started: its first event.
        last_at: time of its newest event.
        moments: what its own span is going to show, if there is anything.
        left_out: how many of them there were before those.
    """

    __slots__ = ("_rounds", "_sent", "_told", "id", "last_at", "left_out", "moments", "started")

    def __init__(self, id: str, started: ev.RunStarted) -> None:
        self.id = id
        self.started = started
        self.last_at = started.at
        self.moments: list[Moment] | None = None  # made when needed: there may be many thousands of stories
        self.left_out = 0
        self._rounds: dict[str, int] | None = None  # how often people have had a step begin anew
        self._sent: set[str] | None = None  # steps that are in other queues
        self._told: dict[str, int] | None = None  # of open steps the newest attempt that was told

    def place(self, step: str, attempt: int) -> tuple[str, int, int]:
        """What the id of an attempt's span is made of."""
        return step, 0 if self._rounds is None else self._rounds.get(step, 0), attempt

    def feed(self, event: ev.Event) -> Span | None:
        """What is to be told now that this has happened."""
        self.last_at = event.at
        kind = type(event)
        if kind is ev.StepCompleted:
            return self._completed(event)  # type: ignore[arg-type]
        if kind is ev.StepAttemptFailed:
            return self._attempt(event, event.attempt, event.failure)  # type: ignore[union-attr]
        if kind is ev.StepFailed:
            return self._failed(event)  # type: ignore[arg-type]
        if kind in STATUS:
            return self._ended(event)  # type: ignore[arg-type]
        if kind is ev.StepParked:
            return self._parked(event)  # type: ignore[arg-type]
        if kind is ev.StepRerun:
            self._rerun(event)  # type: ignore[arg-type]
        elif kind is ev.StepSent:
            self._went(event)  # type: ignore[arg-type]
        elif (say := _MOMENTS.get(kind)) is not None:
            said: tuple[str, Mapping[str, Value | None]] = say(event)
            self._show(said[0], event.at, **said[1])
        return None

    def _show(self, name: str, at: float, **attributes: Value | None) -> None:
        if self.moments is None:
            self.moments = []
        elif len(self.moments) == EVENTS_MAX:
            self.left_out += 1
            del self.moments[0]
        named = {f"perdure.{key}": value for key, value in attributes.items() if value is not None}
        self.moments.append(Moment(f"perdure.{name}", at, named))

    # -- steps -----------------------------------------------------------------------------------------

    def _attempt(
        self, event: Any, number: int, failure: ev.Failure | None, *, failed: bool = True
    ) -> Span | None:
        """The span of an attempt, unless there was none since the last that was told."""
        step: str = event.step
        if number <= (0 if self._told is None else self._told.get(step, 0)):
            return None
        if failed:
            self._told = self._told or {}
            self._told[step] = number
        name = operation_name(step)
        attributes: dict[str, Value] = {
            "perdure.step.id": step,
            "perdure.step.name": name,
            "perdure.step.attempt": number,
        }
        if isinstance(event, ev.StepAttemptFailed):
            attributes["perdure.step.retry_in"] = max(0.0, event.retry_at - event.at)
        start = min(event.started_at, event.at)
        place, sent = self.place(step, number), False
        if self._sent:
            sent = step in self._sent
            self._sent.discard(step)
        return Span(place, f"step {name}", start, event.at, attributes, failure, failed, sent)

    def _went(self, event: ev.StepSent) -> None:
        self._sent = self._sent or set()
        self._sent.add(event.step)
        queue = short(event.queue)
        about: dict[str, Value] = {"step.id": event.step, "step.attempt": event.attempt, "queue": queue}
        self._show("step.sent", event.at, **about)

    def _completed(self, event: ev.StepCompleted) -> Span | None:
        step = event.step
        if event.reused or event.stubbed or event.decision is not None:
            self._over(step)
            if event.decision is not None:
                self._show("step.decided", event.at, **{"step.id": step, "by": event.decision.by})
            return None
        span = self._attempt(event, event.attempt, None, failed=False)
        self._over(step)
        return span

    def _failed(self, event: ev.StepFailed) -> Span | None:
        step = event.step
        if event.reused or event.decision is not None:
            self._over(step)
            if event.decision is not None:
                self._show("step.decided", event.at, **{"step.id": step, "by": event.decision.by})
            return None
        span = self._attempt(event, event.attempt, event.failure)
        self._over(step)
        return span

    def _over(self, step: str) -> None:
        if self._told:
            self._told.pop(step, None)

    def _parked(self, event: ev.StepParked) -> Span | None:
        self._show("step.parked", event.at, **{"step.id": event.step, "why": event.why})
        if event.refused or event.budget is not None:  # the attempt didn't begin
            return None
        failure = event.failure or ev.Failure("perdure.errors.OutcomeUnknown", event.why)
        return self._attempt(event, event.attempt, failure)

    def _rerun(self, event: ev.StepRerun) -> None:
        by = None if event.decision is None else event.decision.by
        self._show("step.decided", event.at, **{"step.id": event.step, "by": by, "again": True})
        if not event.raised:
            self._rounds = self._rounds or {}
            self._rounds[event.step] = self._rounds.get(event.step, 0) + 1
            self._over(event.step)

    # -- the run ---------------------------------------------------------------------------------------

    def _ended(self, event: ev.Final) -> Span:
        failure: ev.Failure | None = getattr(event, "failure", None)
        reason: str | None = getattr(event, "reason", None)
        attributes: dict[str, Value] = {"perdure.run.status": STATUS[type(event)]}
        if reason is not None:
            attributes["perdure.run.reason"] = reason
        if isinstance(event, ev.RunFailed) and event.timed_out:
            attributes["perdure.run.timed_out"] = True
        if self.left_out:
            attributes["perdure.run.events_left_out"] = self.left_out
        started = self.started
        if started.schedule is not None:
            attributes["perdure.schedule"] = started.schedule
        if started.parent is not None:
            attributes["perdure.run.parent"] = started.parent
        if started.donor is not None:
            attributes["perdure.run.donor"] = started.donor.run
        return Span(
            (),
            f"run {started.workflow}",
            started.at,
            event.at,
            attributes,
            failure,
            isinstance(event, ev.RunFailed) or failure is not None,
            False,
            tuple(self.moments or ()),
        )


_Said: TypeAlias = tuple[str, Mapping[str, Value | None]]


def _by(event: Any) -> str | None:
    return getattr(event, "by", None)


#: The events of a run's span, by what has happened. What steps are told by isn't told again.
_MOMENTS: dict[type, Callable[[Any], _Said]] = {
    ev.RunRecovered: lambda e: ("run.recovered", {"worker": e.worker, "epoch": e.epoch}),
    ev.RunPaused: lambda e: ("run.paused", {"reason": e.reason}),
    ev.RunResumed: lambda e: ("run.resumed", {}),
    ev.CancelRequested: lambda e: ("run.cancel_requested", {"reason": e.reason}),
    ev.DeadlinePassed: lambda e: ("run.deadline_passed", {}),
    ev.StepDelayed: lambda e: (
        "step.delayed",
        {"step.id": e.step, "limit": e.limit, "seconds": max(0.0, e.until - e.at)},
    ),
    ev.TimerStarted: lambda e: ("timer.started", {"timer.id": e.timer, "seconds": max(0.0, e.due - e.at)}),
    ev.TimerFired: lambda e: ("timer.fired", {"timer.id": e.timer}),
    ev.ChildStarted: lambda e: (
        "child.started",
        {"child.run.id": short(e.run), "child.workflow": e.workflow},
    ),
    ev.ChildEnded: lambda e: ("child.ended", {"child.id": e.child, "child.status": e.status}),
    ev.MessageAwaited: lambda e: ("message.awaited", {"message.name": e.name}),
    ev.MessageReceived: lambda e: ("message.received", {"message.name": e.name, "message.sender": e.sender}),
    ev.MessageSent: lambda e: ("message.sent", {"message.name": e.name, "message.to": short(e.run)}),
    ev.UpdateAccepted: lambda e: ("update.accepted", {"update.name": e.name, "update.id": e.update}),
    ev.UpdateCompleted: lambda e: ("update.completed", {"update.id": e.op, "failed": e.failure is not None}),
    ev.CallbackOpened: lambda e: ("callback.opened", {"callback.id": e.op}),
    ev.CallbackEnded: lambda e: ("callback.ended", {"callback.id": e.callback, "timed_out": e.timed_out}),
    ev.QuestionAsked: lambda e: (
        "question.asked",
        {"question.id": e.question.id, "question.to": e.question.to},
    ),
    ev.QuestionAnswered: lambda e: ("question.answered", {"callback.id": e.callback, "by": _by(e)}),
    ev.PublicationAwaited: lambda e: ("event.awaited", {"event.name": e.name}),
    ev.PublicationArrived: lambda e: ("event.arrived", {"event.name": e.name}),
    ev.Published: lambda e: ("event.published", {"event.name": e.name}),
    ev.Patched: lambda e: ("run.patched", {"patch": e.op.removeprefix("patch:")}),
}
