"""What events of steps, timers and child runs mean to the operations that wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.commands import CancelOperation, RunStep, StartChild, StartTimer
from perdure.core.finding import UNSET, Finding, fail


class StepError(Protocol):
    """Makes the exception that the code sees from a step's recorded failure."""

    def __call__(self, failure: ev.Failure, *, step: str, attempts: int) -> BaseException: ...


class MatchingCalls(Finding):
    """What the code has called comes to its end."""

    __slots__ = ("_child_error", "_step_error")

    def __init__(
        self, run_id: str, step_error: StepError, child_error: Callable[[ev.ChildEnded, str], BaseException]
    ) -> None:
        super().__init__(run_id)
        self._step_error = step_error
        self._child_error = child_error

    # -- steps --------------------------------------------------------------------------------------

    def _step_ended(self, event: ev.StepCompleted | ev.StepFailed, value: Any) -> None:
        if event.decision is not None and not self._is_parked(event.step):
            return  # decided twice, or given up meanwhile: the first word counts
        operation = self._take(event, event.step)
        if operation is None:
            return
        if not isinstance(operation, RunStep):
            raise self._unexpected(event)
        if event.input != operation.input:  # it may be recorded as its fingerprint only
            self._check_recorded(event, event.input, event.fingerprint, operation.input)
        future = operation.future
        if isinstance(event, ev.StepCompleted):
            result = operation.decode(event.result) if value is UNSET else value
            if not future.done():
                future.set_result(result)
        elif not future.done():
            fail(future, self._step_error(event.failure, step=event.step, attempts=event.attempt))

    def _step_noted(self, event: ev.StepStarted | ev.StepAttemptFailed, value: Any) -> None:
        operation = self._known(event, event.step)
        if not isinstance(operation, RunStep):
            return
        if isinstance(event, ev.StepStarted):
            operation.noted = True
            operation.first_at = operation.first_at or event.at
            if operation.parked is not None and operation.parked.budget is not None:
                operation.parked = None  # there was money again
                operation.money = ""
        else:
            operation.noted = False
            operation.failed_attempts = event.attempt
            operation.retry_at = event.retry_at
            operation.delay = None
            operation.refusals = 0
            operation.first_at = operation.first_at or event.started_at
            operation.last_failure = event.failure
            operation.recalled = self.replaying
            operation.sent = None

    def _step_sent(self, event: ev.StepSent, value: Any) -> None:
        operation = self._known(event, event.step)
        if operation is None:
            dropped = self._dropped.get(event.step)
            if self.replaying and isinstance(dropped, RunStep):
                # it was given up while this was on its way to the log
                dropped.sent = event
                self._command(CancelOperation(dropped))
            return
        if not isinstance(operation, RunStep):
            raise self._unexpected(event)
        self._check_recorded(event, None, event.fingerprint, operation.input)
        operation.sent = event

    def _step_delayed(self, event: ev.StepDelayed, value: Any) -> None:
        operation = self._known(event, event.step)
        if isinstance(operation, RunStep):
            operation.noted = False
            operation.delay = event
            operation.sent = None
            operation.retry_at = event.until
            operation.recalled = self.replaying
            if event.failure is not None:
                operation.refusals += 1
                operation.last_failure = event.failure
                operation.first_at = operation.first_at or event.started_at

    def _step_parked(self, event: ev.StepParked, value: Any) -> None:
        operation = self._known(event, event.step)
        if isinstance(operation, RunStep):
            self._check_input(event, operation.input)
            operation.parked = event
            operation.sent = None
            operation.delay = None
            operation.failed_attempts = event.attempt
            operation.last_failure = event.failure
            if event.budget is not None:
                operation.noted = False
                operation.money = "waits"
                operation.recalled = self.replaying

    def _step_rerun(self, event: ev.StepRerun, value: Any) -> None:
        operation = self.operations.get(event.step)
        if not isinstance(operation, RunStep) or operation.parked is None:
            return
        if operation.parked.budget is not None:
            operation.money = "waits" if event.raised else "allowed"
        elif event.raised:
            return  # it waits for something else by now
        else:
            operation.first_at = operation.last_failure = None
            operation.failed_attempts = 0
        operation.parked = None
        operation.retry_at = 0.0
        operation.noted = False

    def _unask_cancel(self, op_id: str) -> None:
        """What the code gave up is seen to: nothing needs to be cancelled any more."""
        if self._commands:
            self._commands = [
                command
                for command in self._commands
                if not (isinstance(command, CancelOperation) and command.operation.id == op_id)
            ]

    def _is_parked(self, op_id: str) -> bool:
        operation = self.operations.get(op_id)
        return isinstance(operation, RunStep) and operation.parked is not None

    # -- timers -------------------------------------------------------------------------------------

    def _timer_noted(self, event: ev.TimerStarted, value: Any) -> None:
        timer = self._known(event, event.timer)
        if isinstance(timer, StartTimer):
            timer.noted = True

    def _timer_fired(self, event: ev.TimerFired, value: Any) -> None:
        operation = self._take(event, event.timer)
        if operation is None:
            return
        if not isinstance(operation, StartTimer):
            raise self._unexpected(event)
        self.loop.fire(operation.handle)

    # -- children -----------------------------------------------------------------------------------

    def _child_started(self, event: ev.ChildStarted, value: Any) -> None:
        operation = self._known(event, event.child)
        if not isinstance(operation, StartChild):
            dropped = self._dropped.get(event.child)
            if isinstance(dropped, StartChild):  # given up while its start was on its way to the log
                dropped.recorded = True
                self._command(CancelOperation(dropped))
            return
        self._check_input(event, operation.input)
        if event.reused:  # it is the donor's child that the code gets to know, and has sent messages to
            operation.run_id = event.run
        operation.recorded = True
        if self._fresh.pop(operation.id, None) is not None and self._doubt is not None:
            self._check_doubt(operation.id)
        if operation.started is not None and not operation.started.done():
            operation.started.set_result(None)

    def _child_ended(self, event: ev.ChildEnded, value: Any) -> None:
        operation = self._take(event, event.child)
        if operation is None:
            self._unask_cancel(event.child)
            return
        if not isinstance(operation, StartChild):
            raise self._unexpected(event)
        if operation.ended.done():
            return
        if event.result is not None:
            operation.ended.set_result(operation.decode(event.result) if value is UNSET else value)
        else:
            fail(operation.ended, self._child_error(event, operation.run_id))
