"""A run's timeline as data: a row for each operation, with the attempts, waits and pauses that it is made of.

Events are added one by one, as they come, so a page that follows a run needn't begin anew with each. What of it is
drawn, and how, is decided elsewhere (gantt_view.py, gantt_markup.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.api.lines_messages import MESSAGES
from perdure.api.wording import duration, one_line
from perdure.core import events as ev
from perdure.core.scope import operation_name
from perdure.web.views.gantt_rows import Mark, Row, Span, Tone


class Gantt:
    """The timeline of one run, as far as its events are known.

    Attributes:
        rows: by op id, in the order in which they began; the first, "", is the run's.
        marks: moments, in order.
        last_at: when the newest event happened.
        ended: the run has its final event.

    Example:
        >>> gantt = Gantt()
        >>> gantt.add(1, ev.RunStarted(10.0, "app.greet", b"[[], {}]", b""))
        >>> gantt.add(2, ev.StepCompleted(12.0, "app.look#1", 1, 11.0, b"1"))
        >>> [(row.name, row.start, row.end) for row in gantt.rows.values()]
        [('app.greet', 10.0, None), ('app.look', 11.0, 12.0)]
    """

    def __init__(self, events: Iterable[ev.Event] = ()) -> None:
        self.rows: dict[str, Row] = {}
        self.marks: list[Mark] = []
        self.last_at = 0.0
        self.ended = False
        self._receivers: dict[str, list[str]] = {}  # by the message's name, in their order
        self._served: dict[str, str] = {}  # which receiver a message woke, unless it is set aside
        for seq, event in enumerate(events, 1):
            self.add(seq, event)

    @property
    def run(self) -> Row | None:
        return self.rows.get("")

    def add(self, seq: int, event: ev.Event) -> None:
        """Take in the history's `seq`th event."""
        run = self.run
        at = event.at if run is None else max(event.at, run.start)  # what was taken over is older
        self.last_at = max(self.last_at, at)
        match event:
            case ev.RunStarted():
                self.rows[""] = Row("", "run", event.workflow, "busy", at, None, seq, seq)
            case (
                ev.StepStarted() | ev.StepSent() | ev.StepAttemptFailed() | ev.StepDelayed() | ev.StepRerun()
            ):
                self._step(seq, at, event)
            case ev.StepParked() | ev.StepCompleted() | ev.StepFailed():
                self._step(seq, at, event)
            case _ if isinstance(event, MESSAGES):
                self._message(seq, at, event)
            case ev.TimerStarted():
                self._open(event.timer, "timer", seq, at, f"fires after {duration(event.due - at)}", "timer")
            case ev.ChildStarted():
                row = self._open(event.child, "child", seq, at, "child run", event.workflow)
                row.run, row.settled = event.run, False
            case ev.QuestionAsked():
                row = self._open(
                    event.op, "question", seq, at, one_line(event.question.text, 80), "question", "hold"
                )
                row.question = event.question.id
            case ev.CallbackOpened():
                self._open(event.op, "callback", seq, at, "callback", "callback")
            case ev.PublicationAwaited():
                self._open(event.op, "event", seq, at, f"waits for the event {event.name}", event.name)
            case ev.UpdateAccepted():
                self._open(event.update, "update", seq, at, "is carried out", event.name, "busy")
            case _:
                self._outcome(seq, at, event)

    # -- steps ------------------------------------------------------------------------------------------

    def _step(self, seq: int, at: float, event: ev.Event) -> None:
        step: str = getattr(event, "step")  # noqa: B009 - a part of the union that has it
        began = max(getattr(event, "started_at", None) or at, self._began())
        row = self.rows.get(step) or self._row(step, "step", seq, min(began, at))
        row.last = seq
        row.attempts = max(row.attempts, getattr(event, "attempt", 0))
        match event:
            case ev.StepStarted():
                row.close(at)
                row.spans.append(Span("attempt", "busy", at, None, seq, f"attempt {event.attempt}"))
                row.tone, row.text = "busy", f"attempt {event.attempt} executes"
            case ev.StepSent():
                row.close(at)
                row.spans.append(Span("sent", "busy", at, None, seq, f"sent to queue {event.queue}"))
                row.tone, row.text, row.run = "busy", f"sent to queue {event.queue}", event.run
            case ev.StepAttemptFailed():
                told = _failure(event.failure)
                self._attempt(row, seq, began, at, "bad", f"attempt {event.attempt} failed: {told}")
                later = duration(event.retry_at - event.at)
                row.spans.append(Span("backoff", "wait", at, event.retry_at, seq, f"again after {later}"))
                row.tone, row.text = "hold", f"attempt {event.attempt} failed: {told}"
            case ev.StepDelayed():
                if event.failure is not None:
                    self._attempt(row, seq, began, at, "hold", f"turned away: {_failure(event.failure)}")
                row.close(at)
                row.spans.append(
                    Span("limit", "wait", at, event.until, seq, f"waits for the limit {event.limit}")
                )
                row.tone, row.text = "wait", f"waits for the rate limit {event.limit}"
            case ev.StepParked():
                kind = "budget" if event.budget is not None else "person"
                if not event.refused and event.budget is None:
                    self._attempt(
                        row, seq, began, at, "bad", f"attempt {event.attempt}: {one_line(event.why, 120)}"
                    )
                row.close(at)
                told = "waits for money" if event.budget is not None else "waits for a person"
                row.spans.append(Span(kind, "hold", at, None, seq, told))
                row.tone, row.text = "hold", f"{told}: {one_line(event.why, 120)}"
            case ev.StepRerun():
                row.close(at)
                row.tone, row.text = "busy", "runs again"
            case ev.StepCompleted():
                self._settle_step(row, seq, began, at, event, "good", "completed")
            case ev.StepFailed():
                self._settle_step(row, seq, began, at, event, "bad", f"failed: {_failure(event.failure)}")
            case _:
                raise AssertionError(event)

    def _attempt(self, row: Row, seq: int, began: float, at: float, tone: Tone, text: str) -> None:
        """An attempt is over, of which an earlier event may have told that it began."""
        going = row.open_span()
        if going is not None and going.kind in ("attempt", "sent"):
            before = row.spans[-2].end if len(row.spans) > 1 else None
            going.start = min(going.start, began if before is None else max(began, before))
            going.end, going.tone, going.text, going.seq = at, tone, text, seq
            row.start = min(row.start, going.start)
            return
        row.close(began)
        row.spans.append(Span("attempt", tone, min(began, at), at, seq, text))

    def _settle_step(
        self,
        row: Row,
        seq: int,
        began: float,
        at: float,
        event: ev.StepCompleted | ev.StepFailed,
        tone: Tone,
        text: str,
    ) -> None:
        if event.decision is not None:
            row.close(at)
            text += " (a person decided)"
        elif event.reused or getattr(event, "stubbed", False):
            row.start, tone = at, "idle" if event.reused else "hold"
            text += " (taken over)" if event.reused else " (stubbed)"
            row.spans.append(Span("attempt", tone, at, at, seq, text))
        else:
            self._attempt(row, seq, began, at, tone, text)
        self._close(row, seq, at, tone, text)
        row.settled = True

    # -- all else that is waited for ----------------------------------------------------------------------

    def _began(self) -> float:
        return 0.0 if self.run is None else self.run.start

    def _row(self, id: str, kind: str, seq: int, start: float, name: str = "") -> Row:
        row = self.rows[id] = Row(id, kind, name or operation_name(id), "busy", start, None, seq, seq)
        return row

    def _open(
        self, id: str, kind: str, seq: int, at: float, text: str, name: str, tone: Tone = "wait"
    ) -> Row:
        row = self.rows.get(id) or self._row(id, kind, seq, at, name)
        row.last, row.text, row.tone, row.end = seq, text, tone, None
        if row.open_span() is None:
            row.spans.append(Span("wait", tone, at, None, seq, text))
        return row

    def _close(self, row: Row, seq: int, at: float, tone: Tone, text: str) -> None:
        row.close(at)
        if row.kind != "step" and row.spans:
            row.spans[-1].tone = tone
        row.last, row.end, row.tone, row.text = seq, at, tone, text

    def _end(
        self, id: str, kind: str, seq: int, at: float, tone: Tone, text: str, *, reused: bool = False
    ) -> None:
        row = self.rows.get(id) or self._open(id, kind, seq, at, text, "timer" if kind == "timer" else "")
        self._close(row, seq, at, "idle" if reused else tone, text + (" (taken over)" if reused else ""))
        row.settled = True

    def _message(self, seq: int, at: float, event: ev.Event) -> None:
        match event:
            case ev.MessageAwaited():
                self._open(event.receive, "message", seq, at, f"waits for {event.name}", event.name)
                self._receivers.setdefault(event.name, []).append(event.receive)
            case ev.MessageReceived():
                self._mark(seq, at, "wait", f"message {event.name} came")
                if self._receivers.get(event.name):
                    receiver = self._receivers[event.name].pop(0)
                    self._served[f"message:{seq}"] = receiver
                    self._close(self.rows[receiver], seq, at, "good", "received")
            case ev.MessageSetAside():
                self._mark(seq, at, "hold", f"{event.op.replace(':', ' ')} was set aside")
                if (again := self._served.pop(event.op, None)) is not None:
                    row = self.rows[again]
                    self._open(again, "message", seq, at, f"waits for {row.name}", row.name)
                    self._receivers.setdefault(row.name, []).insert(0, again)
            case ev.MessageSent():
                self._mark(
                    seq, at, "hold" if event.withheld else "good", f"sent {event.name} to run {event.run}"
                )
            case _:
                self._mark(seq, at, "bad", "a message couldn't be delivered")

    # -- outcomes -----------------------------------------------------------------------------------------

    def _outcome(self, seq: int, at: float, event: ev.Event) -> None:
        match event:
            case ev.TimerFired():
                self._end(event.timer, "timer", seq, at, "good", "fired", reused=event.reused)
            case ev.ChildEnded():
                tone: Tone = "good" if event.status == "completed" else "bad"
                told = event.status if event.failure is None else f"failed: {_failure(event.failure)}"
                self._end(event.child, "child", seq, at, tone, told, reused=event.reused)
            case ev.QuestionAnswered():
                told = f"answered by {event.by}" if event.by else "answered"
                good = event.failure is None
                self._end(
                    event.callback, "question", seq, at, "good" if good else "bad", told, reused=event.reused
                )
            case ev.CallbackEnded():
                if event.failure is None:
                    self._end(event.callback, "callback", seq, at, "good", "completed", reused=event.reused)
                else:
                    told = "timed out" if event.timed_out else f"failed: {_failure(event.failure)}"
                    self._end(event.callback, "callback", seq, at, "bad", told, reused=event.reused)
            case ev.PublicationArrived():
                if event.unread is None:
                    self._end(
                        event.wait, "event", seq, at, "good", f"event {event.name}", reused=event.reused
                    )
                else:
                    self._mark(seq, at, "hold", f"event {event.name} couldn't be read")
            case ev.UpdateCompleted():
                bad = event.failure is not None
                told = "completed" if event.failure is None else f"failed: {_failure(event.failure)}"
                self._end(event.op, "update", seq, at, "bad" if bad else "good", told)
            case ev.OperationDropped():
                self._given_up(event.operation, seq, at)
            case ev.PublicationGivenUp() | ev.QuestionWithdrawn():
                self._given_up(event.op, seq, at)
            case _:
                self._of_run(seq, at, event)

    def _given_up(self, id: str, seq: int, at: float) -> None:
        row = self.rows.get(id)
        if row is None:
            return
        self._close(row, seq, at, "idle", "given up by the code")
        if row.kind == "message" and id in self._receivers.get(row.name, ()):
            self._receivers[row.name].remove(id)

    def _of_run(self, seq: int, at: float, event: ev.Event) -> None:
        run = self.run
        if run is None:
            return
        match event:
            case ev.RunPaused():
                run.spans.append(
                    Span("paused", "hold", at, None, seq, one_line(f"paused {event.reason or ''}", 80))
                )
            case ev.RunResumed():
                run.close(at)
                self._mark(seq, at, "busy", "resumed")
            case ev.RunRecovered():
                self._recovered(seq, at, event)
            case ev.CancelRequested():
                told = "termination requested" if event.terminate else "cancel requested"
                self._mark(seq, at, "hold", one_line(f"{told} {event.reason or ''}", 80))
            case ev.DeadlinePassed():
                self._mark(seq, at, "bad", "deadline passed")
            case ev.Published():
                self._mark(seq, at, "hold" if event.withheld else "good", f"published {event.name}")
            case (
                ev.RunCompleted()
                | ev.RunFailed()
                | ev.RunCancelled()
                | ev.RunTerminated()
                | ev.RunContinued()
            ):
                self._final(seq, at, event)
            case _:
                pass  # attributes, items of streams, checkpoints: the log of events has them

    def _recovered(self, seq: int, at: float, event: ev.RunRecovered) -> None:
        """Its worker was lost, and with it what it had begun."""
        self._mark(seq, at, "hold", f"taken over by {event.worker}, after its worker was lost")
        for row in self.rows.values():
            going = row.open_span()
            if row.kind == "step" and row.end is None and going is not None and going.kind == "attempt":
                going.end, going.tone, going.text = at, "hold", f"{going.text}, lost with its worker"

    def _final(self, seq: int, at: float, event: ev.Final) -> None:
        run = self.rows[""]
        told: str = type(event).__struct_config__.tag.removeprefix("run_")  # type: ignore[union-attr]
        good = isinstance(event, ev.RunCompleted | ev.RunContinued)
        tone: Tone = "good" if good else "bad" if isinstance(event, ev.RunFailed) else "idle"
        for row in self.rows.values():
            if row.end is None and row is not run:
                self._close(row, seq, at, "idle", f"open when the run was {told}")
        run.close(at)
        run.end, run.last, run.tone, run.text = at, seq, tone, told
        if isinstance(event, ev.RunFailed):
            run.text = f"failed: {_failure(event.failure)}"
        self.ended = True

    def _mark(self, seq: int, at: float, tone: Tone, text: str) -> None:
        self.marks.append(Mark(seq, at, tone, one_line(text, 120)))


def _failure(failure: ev.Failure) -> str:
    return one_line(f"{failure.type.removeprefix('builtins.')}: {failure.message}", 120)
