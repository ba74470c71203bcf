"""What a run has going on this worker: attempts of steps, and alarms on the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.commands import AwaitCallback, Operation, RunStep, SendMessage, StartChild, StartTimer
from perdure.core.machine import Machine
from perdure.core.reuse import Reuse
from perdure.core.status import Status
from perdure.runtime import elsewhere
from perdure.runtime.attempt import Attempt, Reporter
from perdure.runtime.heartbeats import Pulse
from perdure.runtime.host import Host, appended
from perdure.runtime.parking import announce, asks_again, asks_again_at
from perdure.runtime.pausing import Pause
from perdure.runtime.timers import Alarm, Timers
from perdure.runtime.withholding import withheld
from perdure.storage.effects import Effect, StepDetail
from perdure.storage.records import Detail, NewRun

#: Seconds after which a callback that is due is looked after again, if nothing has come of it.
LOOK_AGAIN = 5.0


#: Notes and records after which there is something to do.
FOLLOWED = frozenset(
    {
        ev.StepStarted,
        ev.StepAttemptFailed,
        ev.StepDelayed,
        ev.StepParked,
        ev.StepRerun,
        ev.MessageSent,
        ev.Emitted,
    }
)


class Owner(Protocol):
    """The run that the work belongs to."""

    id: str
    machine: Machine
    gone: bool
    pause: Pause | None
    donor: Reuse | None
    run: int
    epoch: int

    @property
    def host(self) -> Host[Any]: ...
    @property
    def work(self) -> Work: ...
    @property
    def keys(self) -> int: ...
    @property
    def keys_of(self) -> str | None: ...
    def record(self, event: ev.Event, value: Any = ...) -> None: ...
    @property
    def known_as(self) -> str: ...
    @property
    def streams_of(self) -> int | None: ...
    @property
    def quiet(self) -> bool: ...
    @property
    def reporter(self) -> Reporter | None: ...
    def now(self) -> float: ...
    def write_down(self, event: Any, effects: Sequence[Effect] = ..., child: NewRun | None = ...) -> None: ...
    def collect(self, event: Any, value: Any, effects: Sequence[Effect] = ...) -> ev.Event: ...
    def add_effect(self, effect: Effect) -> None: ...
    def flush(self) -> None: ...
    def deadline_passed(self) -> None: ...


class RunAlarm(Alarm):
    """An alarm of a run's work: thousands of runs may have one, so it is one object, not one of five.

    Args:
        action: called with the work and what was armed.
        armed: what it is about.
    """

    __slots__ = ("_armed", "_work", "name")

    def __init__(
        self, name: str, due: float, action: Callable[[Work, Any], None], work: Work, armed: Any
    ) -> None:
        super().__init__(work.timers, due, action, ())
        self.name = name
        self._work: Work | None = work
        self._armed = armed

    def ring(self) -> None:
        action, work, self.action = self.action, self._work, None
        if action is not None and work is not None:
            work.rung(self, action, self._armed)

    def cancel(self) -> None:
        super().cancel()
        self._work = self._armed = None  # it may stay in the heap for a while


class Work:
    """The open work of one run. Empty most of the time, so its tables are made when needed."""

    __slots__ = ("_alarm", "_alarms", "_attempts", "_parked", "_run")

    def __init__(self, run: Owner) -> None:
        self._run = run
        self._attempts: dict[str, Attempt] | None = None
        self._alarm: RunAlarm | None = None  # most runs have one at most
        self._alarms: dict[str, RunAlarm] | None = None  # the others
        self._parked: list[RunStep] | None = None  # steps that wait for a person's decision

    def start_step(self, operation: RunStep) -> None:
        """Begin the step's next attempt, now or when its wait is over."""
        if operation.sent is not None or (self._attempts is not None and operation.id in self._attempts):
            return
        run = self._run
        host = run.host
        if operation.parked is not None and (operation.parked.unknown or not operation.concluding):
            if not asks_again(operation, host.clock()):
                self._park(operation)
                return
            operation.parked = None
        waits = operation.retry_at and operation.retry_at > host.clock()
        # of one that would be sent elsewhere the history tells; so nothing has begun
        if operation.concluding and (
            waits or not operation.recalled or operation.elsewhere or operation.parked is not None
        ):
            host.steps.give_up(run, operation)
            return
        if waits:
            self.arm(operation.id, operation.retry_at, Work._retry, operation)
            host.watch(run, operation)
            return
        started = run.machine.started
        if started is not None and started.donor is not None and withheld(run, operation):
            return
        if operation.elsewhere:
            elsewhere.send(run, operation)
            return
        attempt = host.steps.start(run, operation)
        if not attempt.over:  # eager tasks may be done already
            if self._attempts is None:
                self._attempts = {}
            self._attempts[operation.id] = attempt
            attempt.listed = True

    def _retry(self, operation: RunStep) -> None:
        self.start_step(operation)
        self._run.flush()  # it may have been sent elsewhere

    def follow(self, event: ev.Event) -> None:
        """What is in the history now asks for something here: do it."""
        match event:
            case ev.Emitted():
                self._run.host.streams_grew(self._run)
            case ev.StepAttemptFailed() | ev.StepDelayed() | ev.StepRerun():
                self._run.host.streams_grew(self._run)  # they may tell that its items don't count
                operation = self._run.machine.operations.get(event.step)
                if isinstance(event, ev.StepRerun) and (alarm := self._take_alarm(event.step)) is not None:
                    alarm.cancel()  # it isn't waited for any more
                if isinstance(operation, RunStep) and not self._run.machine.asks_anew(operation):
                    self.start_step(operation)
            case ev.StepParked():
                operation = self._run.machine.operations.get(event.step)
                if isinstance(operation, RunStep):
                    self._park(operation)
            case ev.StepStarted():
                attempt = None if self._attempts is None else self._attempts.get(event.step)
                if attempt is not None and attempt.start is event and attempt.beginning:
                    assert attempt.begun is not None
                    attempt.begun.set_result(None)
            case ev.MessageSent():
                self._run.host.changed()  # its receiver may be driven here
            case _:
                pass

    def _park(self, operation: RunStep) -> None:
        if self._parked is None or operation not in self._parked:
            self._parked = appended(self._parked, operation)
            announce(self._run, operation)
        until = asks_again_at(operation)
        if until is not None and not self._armed(operation.id):
            self.arm(operation.id, until, Work._retry, operation)

    def parked(self) -> Sequence[RunStep]:
        """The steps that wait for a person's decision."""
        if self._parked is None:
            return ()
        still = self._run.machine.operations
        self._parked = [
            step for step in self._parked if step.parked is not None and still.get(step.id) is step
        ] or None
        return self._parked or ()

    def standing(self) -> Status:
        """What the run is at."""
        if self.executing:
            return Status.RUNNING
        return Status.BLOCKED if self.parked() else Status.WAITING

    def news(self, told: str | None) -> Status | None:
        """The run's status, if the store, which has been told another one, should know of it at once."""
        if (
            self._parked is not None and self.parked()
        ):  # while other steps execute it isn't blocked, and may never be
            return None if self.executing else Status.BLOCKED
        if told == Status.BLOCKED:
            return self.standing()
        return None if self._run.machine.operations else Status.WAITING  # for ever, perhaps

    def remember(self, details: Iterable[Detail]) -> None:
        """What heartbeats told before the run came into memory."""
        for detail in details:
            operation = self._run.machine.operations.get(detail.step)
            if isinstance(operation, RunStep):
                operation.pulse = Pulse(detail.data, detail.at, saved=True)

    def attempt_over(self, operation: RunStep) -> None:
        """The executor is done with the current attempt of this step."""
        if self._attempts is not None:
            self._attempts.pop(operation.id, None)

    def start_timer(self, operation: StartTimer) -> None:
        """Record that the timer fired once its time has come."""
        self.arm(operation.id, operation.due, Work._timer_due, operation)
        self._run.host.watch(self._run, operation)

    def _timer_due(self, operation: StartTimer) -> None:
        run = self._run
        if run.machine.operations.get(operation.id) is operation:
            # never earlier than it was due, even if the clock was set back since the alarm rang
            run.record(ev.TimerFired(at=max(run.host.clock(), operation.due), timer=operation.id))

    def watch_callback(self, operation: AwaitCallback, deadline: float | None) -> None:
        """Look after a callback once its time may be over."""
        if deadline is not None:
            self.arm(operation.id, deadline, Work._callback_due, operation)
        self._run.host.watch(self._run, operation)

    def _callback_due(self, operation: AwaitCallback) -> None:
        run = self._run
        if run.machine.operations.get(operation.id) is operation:
            # Should the run leave memory before the store has answered, this will wake it.
            self.arm(operation.id, run.host.clock() + LOOK_AGAIN, Work._callback_due, operation)
            run.host.callback_due(run, operation)

    def watch_deadline(self) -> None:
        """Look at the run's timeout from now on. Not earlier: an alarm mustn't ring amid a replay."""
        started = self._run.machine.started
        if started is not None and started.deadline is not None and not self._run.gone:
            self.arm("deadline", started.deadline, Work._deadline_passed)

    def _deadline_passed(self, _: None) -> None:
        self._run.deadline_passed()

    @property
    def timers(self) -> Timers:
        """The clock's."""
        return self._run.host.timers

    def arm(self, name: str, due: float, action: Callable[[Work, Any], None], armed: Any = None) -> None:
        """Call `action(work, armed)` at `due`, unless this work is dropped before."""
        alarm = RunAlarm(name, due, action, self, armed)
        if self._alarm is None:
            self._alarm = alarm
        else:
            if self._alarms is None:
                self._alarms = {}
            self._alarms[name] = alarm
        self.timers.set(alarm)

    def rung(self, alarm: RunAlarm, action: Callable[[Work, Any], None], armed: Any) -> None:
        """An alarm's time has come."""
        self._take_alarm(alarm.name)
        if (pause := self._run.pause) is not None:
            pause.put_off.append((action, (self, armed)))
        else:
            action(self, armed)

    def _armed(self, name: str) -> bool:
        alarm = self._alarm
        return (alarm is not None and alarm.name == name) or name in (self._alarms or ())

    def _take_alarm(self, name: str) -> RunAlarm | None:
        alarm = self._alarm
        if alarm is not None and alarm.name == name:
            self._alarm = None
            return alarm
        return None if self._alarms is None else self._alarms.pop(name, None)

    def _take_alarms(self) -> list[RunAlarm]:
        alarms = [*(self._alarms or {}).values()]
        if self._alarm is not None:
            alarms.append(self._alarm)
        self._alarm = self._alarms = None
        return alarms

    def cancel(self, operation: Operation) -> None:
        """The code doesn't wait for this any more."""
        if isinstance(operation, RunStep) and operation.pulse is not None and operation.pulse.stored:
            self._run.add_effect(StepDetail(operation.id, None, operation.pulse.at))
        if (alarm := self._take_alarm(operation.id)) is not None:
            alarm.cancel()
        if self._attempts is not None and (attempt := self._attempts.pop(operation.id, None)) is not None:
            attempt.cancel()

    def give_up(self, operation: RunStep) -> None:
        """The code doesn't wait any more for this step, which was sent elsewhere."""
        elsewhere.give_up(self._run, operation)

    def abandon(self, operation: RunStep) -> None:
        """The code doesn't wait for this step any more, and an attempt that executes is to go on all the same."""
        attempt = None if self._attempts is None else self._attempts.get(operation.id)
        if attempt is None or attempt.future is None or attempt.beginning:
            self.cancel(operation)
        else:
            assert self._attempts is not None
            del self._attempts[operation.id]
            attempt.abandoned = True

    def conclude(self, operation: RunStep) -> None:
        """The code was cancelled and waits for the step: what executes goes on, nothing else begins."""
        if self._run.machine.operations.get(operation.id) is not operation:
            return
        if operation.sent is not None:
            elsewhere.conclude(self._run, operation)
            return
        attempt = None if self._attempts is None else self._attempts.get(operation.id)
        stands_in_line = attempt is not None and attempt.future is None and not operation.recalled
        parked = operation.parked is not None and not operation.parked.unknown
        if parked or stands_in_line or self._armed(operation.id):
            self.cancel(operation)
            self._run.host.steps.give_up(self._run, operation)

    def not_begun(self) -> list[RunStep]:
        """Take the steps that stand in line out of it."""
        waiting = [attempt for attempt in (self._attempts or {}).values() if attempt.future is None]
        for attempt in waiting:
            assert self._attempts is not None
            del self._attempts[attempt.operation.id]
            attempt.cancel()
        return [attempt.operation for attempt in waiting]

    def drop(self) -> None:
        """Cancel everything."""
        attempts, self._attempts = self._attempts, None
        for attempt in (attempts or {}).values():
            attempt.cancel()
        for alarm in self._take_alarms():
            alarm.cancel()

    @property
    def executing(self) -> bool:
        """Whether a step is being attempted."""
        return bool(self._attempts)

    def unfinished(self, now: float) -> bool:
        """Whether there is something to do at once: a step that executes, stands in line or was interrupted."""
        # The alarm counts as well as the time: after it has rung, the clock may have been set back.
        operations = self._run.machine.operations.values()
        return self.sending or any(
            isinstance(operation, RunStep)
            and (operation.retry_at <= now or not self._armed(operation.id))
            and operation.parked is None
            and operation.sent is None
            for operation in operations
        )

    @property
    def sending(self) -> bool:
        """Whether a message to another run isn't written down yet, or a child's cancellation isn't there."""
        return any(
            isinstance(operation, SendMessage) or (isinstance(operation, StartChild) and operation.called_off)
            for operation in self._run.machine.operations.values()
        )

    def notable(self, operation: RunStep) -> bool:
        """Whether a note may tell that this step has begun. Some note their own start, with what it may cost."""
        attempt = None if self._attempts is None else self._attempts.get(operation.id)
        return attempt is not None and not operation.noted and not attempt.beginning

    def attempting(self, operation: RunStep) -> bool:
        """Whether this step is being attempted right now (and doesn't wait for its next attempt)."""
        return self._attempts is not None and operation.id in self._attempts

    def next_due(self) -> float | None:
        """When the clock will next have something for this run."""
        due = None if self._alarm is None else self._alarm.due
        for alarm in (self._alarms or {}).values():
            due = alarm.due if due is None or alarm.due < due else due
        return due
