"""A history as lines for people, in a terminal or on a page: when, what, and what came of it.

An event is one line. Times are relative to the run's start, since what matters is what took long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from perdure.api.lines_messages import MESSAGES, MessageTeller
from perdure.api.lines_questions import QUESTIONS, question_line
from perdure.api.wording import duration, one_line, printable
from perdure.core import events as ev
from perdure.core.donor import NOTHING
from perdure.core.patches import change_of
from perdure.core.where import told as conditions


class Line(NamedTuple):
    """One line of a timeline.

    Attributes:
        offset: seconds since the run's start.
        sign: one character for the eye; its style goes with it.
        what: the operation, or what happened to the run.
        took: how long it took, as text.
        detail: values, errors and reasons.
        more: the rest of it, one line each, shown only in full.
    """

    offset: float
    sign: str
    style: str
    what: str
    took: str = ""
    detail: str = ""
    more: str = ""


def timeline(history: Iterable[ev.Event], *, full: bool = False) -> list[Line]:
    """The lines of a history.

    Args:
        full: values are shown whole, and failures with their tracebacks.
    """
    events = list(history)
    teller = _Teller(events, full)
    return [_marked(event, teller.line(number, event)) for number, event in enumerate(events, 1)]


class _Teller:
    """Turns events into lines, and remembers what was started when."""

    def __init__(self, history: Sequence[ev.Event], full: bool) -> None:
        self._full = full
        self._messages = MessageTeller(history, lambda data: self._values(None, data).removeprefix("→ "))
        self._start: float | None = None
        self._since: dict[str, float] = {}
        self._updates: dict[str, str] = {}

    def line(self, number: int, event: ev.Event) -> Line:
        if self._start is None:
            self._start = event.at
        offset = max(0.0, event.at - self._start)  # what was taken over from another run is older
        if isinstance(event, MESSAGES):
            sign, style, what, detail = self._messages.line(number, event)
            return Line(offset, sign, style, what, detail=detail)
        if isinstance(event, QUESTIONS):
            return self._question(offset, event)
        match event:
            case ev.StepSent():
                told = f"attempt {event.attempt} sent to queue {printable(event.queue)}, as run {printable(event.run)}"
                return Line(offset, "·", "dim", printable(event.step), detail=told)
            case ev.StepStarted() | ev.StepAttemptFailed() | ev.StepCompleted() | ev.StepFailed():
                return self._step(offset, event)
            case ev.StepDelayed():
                return self._delay(offset, event)
            case ev.StepParked() | ev.StepRerun():
                return self._decision(offset, event)
            case ev.TimerStarted() | ev.TimerFired() | ev.ChildStarted() | ev.ChildEnded():
                return self._wait(offset, event)
            case ev.CallbackOpened() | ev.CallbackEnded():
                return self._callback(offset, event)
            case ev.PublicationAwaited() | ev.PublicationArrived() | ev.PublicationGivenUp() | ev.Published():
                return self._publication(offset, event)
            case ev.UpdateAccepted() | ev.UpdateCompleted():
                return self._update(offset, event)
            case ev.OperationDropped():
                took = self._took(event.operation, event.at)
                return Line(offset, "·", "dim", event.operation, took, "given up by the code")
            case ev.Emitted():
                told = one_line(f"→ {event.item.decode(errors='replace')}", None if self._full else 60)
                return Line(offset, "»", "blue", f"stream {printable(event.stream)}", detail=told)
            case ev.AttributesSet():
                told = one_line(event.values.decode(errors="replace"), None if self._full else 120)
                what = "attributes" if event.op else "attributes (from outside)"
                return Line(offset, "#", "blue", what, detail=told)
            case ev.Checkpointed():
                return Line(offset, "·", "dim", "state", detail=self._values(None, event.state))
            case ev.Patched():
                told = printable(change_of(event.op))
                return Line(offset, "·", "dim", "patched", detail=f"took the new branch of {told!r}")
            case _:
                return self._run(offset, event)

    def _step(
        self, offset: float, event: ev.StepStarted | ev.StepAttemptFailed | ev.StepCompleted | ev.StepFailed
    ) -> Line:
        number = "" if event.attempt <= 1 else f" (attempt {event.attempt})"
        name = printable(event.step)
        match event:
            case ev.StepStarted():
                return Line(offset, "·", "dim", name, detail=f"attempt {event.attempt} began")
            case ev.StepCompleted():
                took = duration(event.at - event.started_at)
                told = self._values(event.input, event.result) + _decided(event.decision)
                return Line(offset, "✓", "green", name + number, took, told)
            case ev.StepAttemptFailed():
                told = self._failure(event.failure, f"attempt {event.attempt} failed: ")
                told += f"; again after {duration(event.retry_at - event.at)}"
                took = duration(event.at - event.started_at)
                return Line(offset, "↻", "yellow", name, took, told, self._traceback(event.failure))
            case ev.StepFailed():
                took = duration(event.at - event.started_at)
                told = self._failure(event.failure, "failed for good: ") + _decided(event.decision)
                return Line(offset, "✗", "red", name + number, took, told, self._traceback(event.failure))

    def _delay(self, offset: float, event: ev.StepDelayed) -> Line:
        told = (
            f"waits {duration(max(0.0, event.until - event.at))} for the rate limit {printable(event.limit)}"
        )
        if event.failure is None:
            return Line(offset, "·", "dim", printable(event.step), detail=told)
        told = self._failure(event.failure, "turned away: ") + f"; {told}"
        took = "" if event.started_at is None else duration(event.at - event.started_at)
        return Line(offset, "↻", "yellow", printable(event.step), took, told, self._traceback(event.failure))

    def _decision(self, offset: float, event: ev.StepParked | ev.StepRerun) -> Line:
        name = printable(event.step)
        if isinstance(event, ev.StepRerun) and event.raised:
            return Line(offset, "↻", "yellow", name, detail="asks again: its budget was raised")
        if isinstance(event, ev.StepRerun):
            return Line(offset, "↻", "yellow", name, detail=f"run again{_decided(event.decision)}")
        if event.refused:
            told = one_line(event.why, None if self._full else 140)
            return Line(offset, "⊘", "bold yellow", name, detail=f"refused; {told}")
        if event.budget is not None:
            told = one_line(event.why, None if self._full else 140)
            until = event.budget.until
            told += "" if until is None else f"; asks again after {duration(max(0.0, until - event.at))}"
            return Line(offset, "$", "bold yellow", name, detail=f"waits for money: {told}")
        told = "outcome unknown: " if event.unknown else "attempts used up: "
        told += one_line(event.why, None if self._full else 140)
        more = self._traceback(event.failure) if event.failure is not None else ""
        return Line(offset, "?", "bold yellow", name, detail=f"waits for a person; {told}", more=more)

    def _wait(
        self, offset: float, event: ev.TimerStarted | ev.TimerFired | ev.ChildStarted | ev.ChildEnded
    ) -> Line:
        match event:
            case ev.TimerStarted():
                self._since[event.timer] = event.at
                return Line(
                    offset, "·", "dim", event.timer, detail=f"fires in {duration(event.due - event.at)}"
                )
            case ev.TimerFired():
                return Line(offset, "✓", "green", event.timer, self._took(event.timer, event.at), "fired")
            case ev.ChildStarted():
                self._since[event.child] = event.at
                told = f"child run {printable(event.run)} of {printable(event.workflow)} started"
                return Line(offset, "·", "dim", printable(event.child), detail=told)
            case ev.ChildEnded():
                took = self._took(event.child, event.at)
                if event.failure is not None:
                    told = self._failure(event.failure, "child failed: ")
                    more = self._traceback(event.failure)
                    return Line(offset, "✗", "red", printable(event.child), took, told, more)
                good = event.status == "completed"
                told = (
                    self._values(None, event.result) if event.result is not None else f"child {event.status}"
                )
                return Line(offset, "✓" if good else "✗", "green" if good else "red", event.child, took, told)

    def _question(
        self, offset: float, event: ev.QuestionAsked | ev.QuestionAnswered | ev.QuestionWithdrawn
    ) -> Line:
        shown = self._values
        sign, style, what, detail = question_line(
            event, lambda data: shown(None, data).removeprefix("→ "), None if self._full else 200
        )
        if isinstance(event, ev.QuestionAsked):
            self._since[event.op] = event.at
            return Line(offset, sign, style, what, detail=detail)
        op = event.callback if isinstance(event, ev.QuestionAnswered) else event.op
        return Line(offset, sign, style, what, self._took(op, event.at), detail)

    def _callback(self, offset: float, event: ev.CallbackOpened | ev.CallbackEnded) -> Line:
        if isinstance(event, ev.CallbackOpened):
            self._since[event.op] = event.at
            told = "opened" if event.timeout is None else f"opened for {duration(event.timeout)}"
            if event.heartbeat is not None:
                told += f", with a heartbeat every {duration(event.heartbeat)}"
            return Line(offset, "·", "dim", event.op, detail=told)
        took = self._took(event.callback, event.at)
        if event.failure is not None:
            name = "timed out" if event.timed_out else "failed"
            told = one_line(f"{name}: {event.failure.message}", None if self._full else 140)
            return Line(offset, "✗", "red", event.callback, took, told)
        return Line(offset, "✓", "green", event.callback, took, self._values(None, event.result))

    def _publication(
        self,
        offset: float,
        event: ev.PublicationAwaited | ev.PublicationArrived | ev.PublicationGivenUp | ev.Published,
    ) -> Line:
        match event:
            case ev.PublicationAwaited():
                self._since[event.op] = event.at
                told = f"waits for the event {printable(event.name)}"
                told += f" where {one_line(conditions(event.where), 140)}" if event.where else ""
                return Line(offset, "·", "dim", event.op, detail=told)
            case ev.PublicationArrived():
                took = self._took(event.wait, event.at)
                name = f"event {printable(event.name)}"
                if event.unread is not None:
                    told = one_line(f"passed over: {event.unread}", None if self._full else 140)
                    return Line(offset, "!", "yellow", event.wait, took, f"{name} {told}")
                return Line(
                    offset, "✓", "green", event.wait, took, f"{name} {self._values(None, event.payload)}"
                )
            case ev.PublicationGivenUp():
                return Line(
                    offset, "·", "dim", event.op, self._took(event.op, event.at), "given up by the code"
                )
            case ev.Published():
                told = f"published {printable(event.name)} {self._values(None, event.payload)}".rstrip()
                if event.withheld:
                    return Line(offset, "⊘", "yellow", event.op, detail=f"{told} (withheld)")
                return Line(offset, "→", "green", event.op, detail=told)

    def _update(self, offset: float, event: ev.UpdateAccepted | ev.UpdateCompleted) -> Line:
        if isinstance(event, ev.UpdateAccepted):
            self._since[event.update] = event.at
            key = event.update.partition("[")[2]
            name = self._updates[event.update] = printable(
                f"update {event.name}" + (f" [{key}" if key else "")
            )
            return Line(offset, "·", "dim", name, detail=self._values(event.input, None))
        name, took = self._updates.pop(event.op, printable(event.op)), self._took(event.op, event.at)
        if event.failure is not None:
            told, more = self._failure(event.failure, "failed: "), self._traceback(event.failure)
            return Line(offset, "✗", "red", name, took, told, more)
        return Line(offset, "✓", "green", name, took, self._values(None, event.result))

    def _run(self, offset: float, event: ev.Shown) -> Line:
        match event:
            case ev.Sealed():
                what = event.what.replace("_", " ") + (f" {printable(event.op)}" if event.op else "")
                told = one_line(event.why, None if self._full else 120)
                return Line(offset, "▒", "dim", what or "event", detail=told)
            case ev.RunStarted():
                name = "started" if event.generation == 1 else f"started as generation {event.generation}"
                if event.schedule is not None:
                    name += f" by schedule {printable(event.schedule)}"
                if event.heard is not None and event.heard.event is not None:
                    name += f" by the event {printable(event.heard.event)}"
                if event.donor is not None:
                    name += _from(event.donor)
                return Line(offset, "▶", "bold", name, detail=self._values(event.input, None))
            case ev.RunContinued():
                told = f"as {printable(event.workflow)}{self._values(event.input, None)}"
                return Line(offset, "■", "bold", "continued", detail=told)
            case ev.RunRecovered():
                version = f" (version {printable(event.version)})" if event.version else ""
                told = f"by {printable(event.worker)}{version}, after its worker was lost"
                return Line(offset, "⟳", "yellow", "taken over", detail=told)
            case ev.CancelRequested():
                what = "termination requested" if event.terminate else "cancel requested"
                return Line(offset, "!", "yellow", what, detail=one_line(event.reason or "", None))
            case ev.RunPaused():
                return Line(offset, "‖", "yellow", "paused", detail=one_line(event.reason or "", None))
            case ev.RunResumed():
                return Line(offset, "▶", "yellow", "resumed")
            case ev.DeadlinePassed():
                return Line(offset, "!", "yellow", "deadline passed")
            case ev.RunCompleted():
                return Line(offset, "■", "bold green", "completed", detail=self._values(None, event.result))
            case ev.RunFailed():
                told, more = self._failure(event.failure, ""), self._traceback(event.failure)
                return Line(offset, "■", "bold red", "failed", detail=told, more=more)
            case ev.RunCancelled():
                return Line(
                    offset, "■", "bold yellow", "cancelled", detail=one_line(event.reason or "", None)
                )
            case ev.RunTerminated():
                told, more = one_line(event.reason or "", None), ""
                if event.failure is not None:
                    told += self._failure(event.failure, "; its code ended with " if told else "with ")
                    more = self._traceback(event.failure)
                return Line(offset, "■", "bold red", "terminated", detail=told, more=more)
            case _:
                return Line(offset, "·", "dim", type(event).__name__)

    def _took(self, operation: str, at: float) -> str:
        since = self._since.pop(operation, None)
        return "" if since is None else duration(at - since)

    def _values(self, given: bytes | None, result: bytes | None) -> str:
        limit = None if self._full else 60
        told = "" if given is None else one_line(_arguments(given), limit)
        if result is not None:
            shown = one_line(result.decode(errors="replace"), limit)
            told = f"{told} → {shown}" if told else f"→ {shown}"
        return told

    def _failure(self, failure: ev.Failure, prefix: str) -> str:
        name = failure.type.removeprefix("builtins.")
        return one_line(f"{prefix}{name}: {failure.message}", None if self._full else 140)

    def _traceback(self, failure: ev.Failure) -> str:
        return printable(failure.traceback.rstrip()) if self._full else ""


def _decided(decision: ev.Decision | None) -> str:
    """That a person decided it, and who and why."""
    if decision is None:
        return ""
    who = f"by {one_line(decision.by, 60)}" if decision.by else "by a person"
    return f" (decided {who}{': ' + one_line(decision.why, 140) if decision.why else ''})"


def _marked(event: ev.Event, line: Line) -> Line:
    """Show of what was taken over from another run, or stands in for a step, that nothing was done for it here."""
    if getattr(event, "stubbed", False):
        line = line._replace(sign="○", style="yellow", took="", detail=f"{line.detail} (stubbed)".lstrip())
    if not getattr(event, "reused", False):
        return line
    return line._replace(sign="↤", style="dim", took="", detail=f"{line.detail} (taken over)".lstrip())


def _from(donor: ev.Donor) -> str:
    """Where a retry or a fork takes over from."""
    told = ", counterfactual" if donor.counterfactual is not None else ""
    if donor.upto == NOTHING:
        return f"{told}, under a fork of run {printable(donor.run)}" if told or donor.edits else told
    told += f", going on from run {printable(donor.run)}, generation {donor.generation}"
    return told if donor.upto is None else f"{told}, before event {donor.upto}"


def _arguments(data: bytes) -> str:
    """`[["x", 1], {"y": 2}]` as `("x", 1, y=2)`. What isn't of that form is shown as it is."""
    try:
        args, kwargs = msgspec.json.decode(data, type=tuple[list[msgspec.Raw], dict[str, msgspec.Raw]])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return data.decode(errors="replace")
    shown = [bytes(raw).decode() for raw in args]
    shown += [f"{name}={bytes(raw).decode()}" for name, raw in kwargs.items()]
    return f"({', '.join(shown)})"
