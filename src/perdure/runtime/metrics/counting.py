"""Counts what happens in one engine.

It hears of what is durable, once, by the process that has recorded it, and of replays only that there was one. So
counters count what has happened, whatever is replayed how often. What a process had recorded when it died, and nobody
had asked it for, is in no counter; the histories and the database's own numbers have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from perdure.core import events as ev
from perdure.core.commands import RunStep, StartTimer
from perdure.core.errands import PREFIX
from perdure.core.status import Status
from perdure.core.usage import NANO
from perdure.runtime.metrics.registry import Bars, Cell, Registry
from perdure.runtime.observing import Driven, Observer, Watched
from perdure.storage.ledger import Book, Entry, EntryState
from perdure.storage.records import Append, RunRow

_ENDINGS: Final[dict[type, str]] = {
    ev.RunCompleted: "completed",
    ev.RunFailed: "failed",
    ev.RunCancelled: "cancelled",
    ev.RunTerminated: "terminated",
    ev.RunContinued: "continued",
}
_UNNAMED: Final = "unknown"


class _Step:
    """The cells of one step, which are wanted often."""

    __slots__ = ("attempts", "completed", "took")

    def __init__(self, registry: Registry, name: str) -> None:
        self.completed: Cell = registry.cell("perdure_steps_ended_total", name, "completed")
        self.attempts: Cell = registry.cell("perdure_step_attempts_total", name, "completed")
        self.took: Bars = registry.bars("perdure_step_duration_seconds", name, "completed")


class Counting(Observer):
    """Counts into a registry.

    Args:
        closed: called when the engine was closed.
    """

    def __init__(self, engine: Watched, registry: Registry, closed: Callable[[Counting], None]) -> None:
        self.engine = engine
        self.registry = registry
        self._closed = closed
        self._steps: dict[str, _Step] = {}
        cell, bars = registry.cell, registry.bars
        self._commits = cell("perdure_journal_commits_total")
        self._events = cell("perdure_journal_events_total")
        self._commit = bars("perdure_journal_commit_seconds")
        self._batch = bars("perdure_journal_batch_appends")
        self._claimed = cell("perdure_runs_claimed_total")
        self._evicted = cell("perdure_evictions_total")
        self._replayed = cell("perdure_replay_events_total")
        self._replay = bars("perdure_replay_duration_seconds")
        self._lateness = bars("perdure_timer_lateness_seconds")
        self._unknown = cell("perdure_calls_unknown_total")
        for operation in ("append", "claim", "look"):  # so that a rate is known from the first error on
            cell("perdure_store_errors_total", operation)

    async def close(self) -> None:
        self._closed(self)

    # -- runs ------------------------------------------------------------------------------------------

    def born(self, run: Driven, started: ev.RunStarted) -> None:
        self._begun(run, started)

    def recalled(self, run: Driven, history: Sequence[bytes], *, recovered: bool) -> None:
        started = run.machine.started
        if run.epoch == 1 and started is not None:  # nobody has driven it before
            self._begun(run, started)

    def _begun(self, run: Driven, started: ev.RunStarted) -> None:
        if not _errand(run):
            self.registry.cell("perdure_runs_started_total", run.definition.name, run.queue).value += 1
        waited = max(0.0, self.engine.clock() - started.at)
        self.registry.bars("perdure_run_start_latency_seconds", run.queue).observe(waited)

    def replayed(self, run: Driven, events: int, seconds: float) -> None:
        if run.epoch > 1:
            self.registry.cell("perdure_replays_total", run.definition.name).value += 1
            self._replayed.value += events
            self._replay.observe(seconds)

    def recorded(self, run: Driven, events: Sequence[ev.Event], append: Append) -> None:
        for event in events:
            kind = type(event)
            if kind is ev.StepCompleted:  # nearly all are of this kind
                self._completed(run, event)  # type: ignore[arg-type]
            elif (count := _WAYS.get(kind)) is not None:
                count(self, run, event)
        for effect in append.effects:
            if isinstance(effect, Book):
                self._booked(effect)

    def rested(self, run: Driven, status: Status, code: str | None) -> None:
        if status is Status.WAITING:
            self._evicted.value += 1
        elif status is Status.BLOCKED:
            self.registry.cell("perdure_runs_blocked_total", run.definition.name, code or _UNNAMED).value += 1

    def ended_outside(self, id: str) -> None:
        self.registry.cell("perdure_runs_ended_total", _UNNAMED, "terminated").value += 1

    # -- the engine ------------------------------------------------------------------------------------

    def committed(self, appends: int, events: int, seconds: float) -> None:
        self._commits.value += 1
        self._events.value += events
        self._commit.observe(seconds)
        self._batch.observe(appends)

    def claimed(self, rows: Sequence[RunRow]) -> None:
        self._claimed.value += len(rows)

    def refused(self, operation: str, error: BaseException | None) -> None:
        self.registry.cell("perdure_store_errors_total", operation).value += 1

    # -- events ----------------------------------------------------------------------------------------

    def _completed(self, run: Driven, event: ev.StepCompleted) -> None:
        if event.reused or event.stubbed or _errand(run):
            return
        operation = run.machine.operations.get(event.step)
        name = operation.name if isinstance(operation, RunStep) else _name_of(event.step)
        step = self._steps.get(name)
        if step is None:
            step = _Step(self.registry, name)
            if len(self._steps) < _STEPS_KEPT:
                self._steps[name] = step
        step.completed.value += 1
        if event.decision is None:
            step.attempts.value += 1
            step.took.observe(event.at - event.started_at)

    def _attempt(self, run: Driven, event: Any, outcome: str) -> None:
        if not getattr(event, "reused", False) and not _errand(run):
            name = self._step(run, event.step)
            self.registry.cell("perdure_step_attempts_total", name, outcome).value += 1
            self.registry.bars("perdure_step_duration_seconds", name, outcome).observe(
                event.at - event.started_at
            )

    def _step_failed(self, run: Driven, event: ev.StepFailed) -> None:
        if not event.reused and not _errand(run):
            self.registry.cell("perdure_steps_ended_total", self._step(run, event.step), "failed").value += 1
            if event.decision is None:
                self._attempt(run, event, "failed")

    def _step_parked(self, run: Driven, event: ev.StepParked) -> None:
        if event.budget is not None:
            self.registry.cell("perdure_budget_waits_total", event.budget.name).value += 1
        elif not event.refused:
            self._attempt(run, event, "parked")

    def _delayed(self, run: Driven, event: ev.StepDelayed) -> None:
        self.registry.cell("perdure_limit_waits_total", event.limit).value += 1
        self.registry.bars("perdure_limit_wait_seconds", event.limit).observe(event.until - event.at)

    def _fired(self, run: Driven, event: ev.TimerFired) -> None:
        timer = run.machine.operations.get(event.timer)
        if isinstance(timer, StartTimer) and not event.reused:
            self._lateness.observe(event.at - timer.due)

    def _received(self, run: Driven, event: ev.MessageReceived) -> None:
        if not event.reused:
            self.registry.cell("perdure_messages_received_total", run.definition.name).value += 1

    def _recovered(self, run: Driven, event: ev.RunRecovered) -> None:
        self.registry.cell("perdure_runs_taken_over_total", run.definition.name).value += 1

    def _ended(self, run: Driven, event: ev.Event) -> None:
        if _errand(run):
            return
        name, status = run.definition.name, _ENDINGS[type(event)]
        self.registry.cell("perdure_runs_ended_total", name, status).value += 1
        if run.machine.started is not None:
            lasted = event.at - run.machine.started.at
            self.registry.bars("perdure_run_duration_seconds", name, status).observe(lasted)

    def _step(self, run: Driven, id: str) -> str:
        operation = run.machine.operations.get(id)
        return operation.name if isinstance(operation, RunStep) else _name_of(id)

    # -- money -----------------------------------------------------------------------------------------

    def _booked(self, book: Book) -> None:
        if book.loses is not None:
            self._unknown.value += 1
        for entry in book.entries:
            if entry.state is EntryState.SPENT:
                self._spent(entry)
            elif entry.state is EntryState.UNKNOWN:
                self._unknown.value += 1

    def _spent(self, entry: Entry) -> None:
        used, cell = entry.used, self.registry.cell
        model = used.model or _UNNAMED
        cell("perdure_calls_total", model).value += 1
        for kind in ("input", "output", "cached", "written", "reasoning"):
            if (tokens := getattr(used, kind)) > 0:
                cell("perdure_tokens_total", model, kind).value += tokens
        if used.cost is not None:
            cell("perdure_spent_usd_total", model).value += used.cost / NANO


_STEPS_KEPT = 1000  # steps whose cells are at hand

_WAYS: Final[dict[type, Callable[[Counting, Driven, Any], None]]] = {
    ev.StepFailed: Counting._step_failed,
    ev.StepAttemptFailed: lambda self, run, event: self._attempt(run, event, "retry"),
    ev.StepParked: Counting._step_parked,
    ev.StepDelayed: Counting._delayed,
    ev.TimerFired: Counting._fired,
    ev.MessageReceived: Counting._received,
    ev.RunRecovered: Counting._recovered,
    **dict.fromkeys(_ENDINGS, Counting._ended),
}


def _errand(run: Driven) -> bool:
    """It carries out a step of another run, where that step is counted."""
    return run.definition.name.startswith(PREFIX)


def _name_of(step: str) -> str:
    """The name within a step's id, such as "1.2/app.fetch#2" or "app.fetch[call-7]"."""
    return step.rpartition("/")[2].partition("#")[0].partition("[")[0]
