"""Steps that are executed elsewhere, from the side of the run that waits for them.

An attempt is sent to its queue as a run of its own, an *errand*, which is created in the append that notes it:

    send -> StepSent, with the errand's run -> ... an errand ends ... -> ErrandEnded, by mail -> StepCompleted
                                                                                             or a retry, a failure

What comes back by mail isn't recorded as such. It is turned into what the same end of an attempt would be if it
had been executed here, by the same policies, and that goes into the history in the append that takes the mail.
So a run can leave memory while its step executes, and its history tells of a step like any other.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from perdure.codec.events import encode_event
from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.errands import errand_workflow
from perdure.core.finding import UNSET, fingerprint
from perdure.core.machine import Machine
from perdure.core.namespaces import prefix_of, short
from perdure.core.status import Status
from perdure.errors import RunCancelled, RunTerminated
from perdure.runtime.attempt import OpenWork
from perdure.runtime.definitions import StepOptions
from perdure.runtime.errand import Errand, encode_errand, error_in
from perdure.runtime.heartbeats import Pulse
from perdure.runtime.host import Host
from perdure.runtime.limits import SentLimit, sent_limits
from perdure.runtime.runs import Asker, child_run_id, new_run
from perdure.runtime.withholding import counterfactual
from perdure.storage.chance import chance
from perdure.storage.effects import Effect
from perdure.storage.errands import StopErrand
from perdure.storage.records import NewRun
from perdure.storage.scoping.records import run_within

#: What comes by mail for a step that was sent.
REPORTS = frozenset({ev.ErrandEnded, ev.ChildEnded})


class Run(Protocol):
    """The run whose step it is."""

    id: str
    run: int
    epoch: int
    machine: Machine

    @property
    def host(self) -> Host[Any]: ...
    @property
    def work(self) -> OpenWork: ...
    @property
    def keys(self) -> int: ...
    @property
    def keys_of(self) -> str | None: ...
    def now(self) -> float: ...
    def write_down(self, event: Any, effects: Any = ..., child: NewRun | None = ...) -> None: ...
    def collect(self, event: Any, value: Any, effects: Any = ...) -> ev.Event: ...
    def add_effect(self, effect: Effect) -> None: ...


# -- going out ------------------------------------------------------------------------------------------


def send(run: Run, operation: RunStep) -> None:
    """Send a step's next attempt to its queue, with the run's next append."""
    options: StepOptions = operation.call.options
    assert options.queue is not None
    assert run.machine.started is not None
    limits: tuple[SentLimit, ...] = ()
    if options.limits:
        try:
            call = operation.call
            limits = sent_limits(options.limits, call.definition.run, *call.arguments(operation.input))
        except Exception as error:  # noqa: BLE001 - a function of the user's
            attempt = run.host.steps.attempt_of(_Taking(run), operation, run.host.clock())
            run.host.steps.raised(attempt, error)
            return
    pulse: Pulse | None = operation.pulse
    number = operation.failed_attempts + 1
    errand = Errand(
        run=run.id,
        step=operation.id,
        keys=run.keys,
        keys_of=run.keys_of,
        attempt=number,
        input=operation.input,
        timeout=options.timeout,
        limits=limits,
        deadline=options.deadline,
        first_at=operation.first_at,
        heartbeat_timeout=options.heartbeat_timeout,
        detail=None if pulse is None else pulse.data,
        detail_at=0.0 if pulse is None else pulse.at,
        quiet=counterfactual(run.machine) is not None,
    )
    observer = run.host.observer
    if observer is not None and (told := observer.sends(run.run, operation.id, number)) is not None:
        errand = msgspec.structs.replace(errand, trace=told)
    workflow = errand_workflow(operation.name)
    # never the id of an earlier one: ids of steps come again when a person has an attempt made anew
    name = f"{operation.id}@{chance.token_hex(4)}"
    new = new_run(
        id=child_run_id(short(run.id), name, run.machine.started.generation),
        workflow=workflow,
        input=encode_errand(errand),
        queue=options.queue,
        now=run.host.clock(),
        asker=Asker(
            short(run.id), run.run, operation.id, "abandon" if options.on_cancel == "abandon" else "cancel"
        ),
    )
    operation.sent = ev.StepSent(
        at=run.now(),
        step=operation.id,
        attempt=number,
        queue=options.queue,
        run=new.id,
        fingerprint=fingerprint(operation.input),
    )
    run.write_down(operation.sent, child=run_within(new, prefix_of(run.id)))
    run.host.watch(run, operation)


def miss(run: Run, operation: RunStep) -> None:
    """The errand isn't there: the run was brought here without it. Nobody knows how far that has come."""
    sent = operation.sent
    assert sent is not None
    if operation.call.definition.once:
        # it counts as sent until this is recorded, so that nothing begins meanwhile
        attempt = run.host.steps.attempt_of(_Taking(run), operation, sent.at)
        why = f"its execution, run {sent.run!r}, isn't in this database"
        run.host.steps.park(attempt, why, unknown=True, started_at=sent.at, error=None)
    else:
        send(run, operation)


def give_up(run: Run, operation: RunStep) -> None:
    """The code doesn't wait any more for a step that was sent."""
    event = ev.OperationDropped(run.now(), operation.id)
    abandoned = operation.call.options.on_cancel == "abandon"
    why = f"run {short(run.id)!r} gave up waiting for its step {operation.id!r}"
    run.write_down(event, [_stop(run, operation, why, request=not abandoned)])


def conclude(run: Run, operation: RunStep) -> None:
    """The code was cancelled and waits for a step that was sent: it goes on if it has begun."""
    why = f"run {short(run.id)!r} was cancelled before its step {operation.id!r} began"
    run.add_effect(_stop(run, operation, why, tell=True))


def _stop(run: Run, operation: RunStep, why: str, *, tell: bool = False, request: bool = False) -> StopErrand:
    assert operation.sent is not None
    now = run.now()
    return StopErrand(
        operation.sent.run,
        encode_event(ev.RunCancelled(now, reason=why)),
        tell=tell,
        request=encode_event(ev.CancelRequested(now, reason=why)) if request else None,
    )


# -- coming back ----------------------------------------------------------------------------------------


def take_report(run: Run, event: ev.ErrandEnded | ev.ChildEnded) -> bool:
    """Record what has come of an attempt that was sent. False: the mail is about something else."""
    step = event.step if isinstance(event, ev.ErrandEnded) else event.child
    operation = run.machine.operations.get(step)
    waited_for = isinstance(operation, RunStep) and operation.sent is not None
    if isinstance(event, ev.ChildEnded):
        if waited_for:
            assert isinstance(operation, RunStep)
            _ended_otherwise(run, operation, event)
            return True
        return isinstance(run.machine.given_up(step), RunStep)
    if operation is None:
        dropped = run.machine.given_up(step)
        if isinstance(dropped, RunStep) and dropped.call.options.on_cancel == "abandon":
            _settle(run, dropped, event, abandoned=True)
    elif isinstance(operation, RunStep) and operation.sent is not None and operation.sent.run == event.run:
        _settle(run, operation, event, abandoned=False)
    return True


def _settle(run: Run, operation: RunStep, report: ev.ErrandEnded, *, abandoned: bool) -> None:
    steps = run.host.steps
    if report.detail is not None:
        _remember(operation, report.detail, report.detail_at)
    attempt = steps.attempt_of(_Taking(run), operation, report.started_at)
    attempt.info.attempt = report.attempt
    attempt.abandoned = abandoned
    if report.emitted:
        steps.outlet_of(attempt)
    error = error_in(report)
    if report.doubt is not None:
        steps.park(attempt, report.doubt, unknown=True, started_at=report.started_at, error=error)
    elif report.result is not None:
        steps.completed(attempt, report.result, UNSET)
    elif report.gives_up and report.failure is not None:
        failure = operation.last_failure or report.failure
        steps.fail(attempt.run, operation, operation.failed_attempts, report.started_at, failure)
    elif error is not None:
        steps.raised(attempt, error)


def _remember(operation: RunStep, detail: bytes, at: float) -> None:
    pulse: Pulse | None = operation.pulse
    if pulse is None:
        operation.pulse = Pulse(detail, at)
    else:
        pulse.data, pulse.at, pulse.saved = detail, at, False


def _ended_otherwise(run: Run, operation: RunStep, event: ev.ChildEnded) -> None:
    """The errand was stopped before it began, or somebody has ended it from outside."""
    steps, taking = run.host.steps, _Taking(run)
    assert operation.sent is not None
    if operation.concluding and event.status == Status.CANCELLED:
        steps.give_up(taking, operation)
        return
    id, since = operation.sent.run, operation.sent.at
    told = f"attempt {operation.sent.attempt} of step {operation.id!r}, sent to queue {operation.sent.queue!r}, was"
    kind = RunTerminated if event.status == Status.TERMINATED else RunCancelled
    error = kind(f"{told} {event.status} from outside (run {id!r})", run_id=id)
    if operation.call.definition.once:
        attempt = steps.attempt_of(taking, operation, since)
        why = f"its execution was {event.status} from outside (run {id!r})"
        steps.park(attempt, why, unknown=True, started_at=since, error=error)
    else:
        steps.fail(taking, operation, operation.sent.attempt, since, event.failure or failure_of(error))


class _Taking:
    """Records for a run what follows from its mail: with the append that takes it, and not at once."""

    reporter = None
    streams_of = None
    quiet = False  # what an errand published, it has published itself

    def __init__(self, run: Run) -> None:
        self._run = run
        self.id = self.known_as = run.id
        self.run = run.run
        self.epoch = run.epoch
        self.keys, self.keys_of = run.keys, run.keys_of
        self.work = run.work

    def now(self) -> float:
        return self._run.now()

    def record(self, event: ev.Event, value: Any = UNSET) -> None:
        self._run.collect(event, value)

    def add_effect(self, effect: Effect) -> None:
        self._run.add_effect(effect)

    def flush(self) -> None:
        """It is flushed when the mail is taken."""
