"""What events mean to a run: the half of the machine that matches what has happened with what the code asked for.

Each method here takes one event and changes the run's open operations by it; whether the code then gets a turn
is told by the tables in machine.py. An event that nothing fits is a divergence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    CancelOperation,
    OpenOperation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
)
from perdure.core.patches import Patching
from perdure.errors import (
    CallbackFailed,
    NonDeterminismError,
    RunEndedError,
    UndecodableError,
    UnknownRunError,
)

UNSET: Any = object()

FINGERPRINT_BYTES = 16


def fingerprint(data: bytes) -> bytes:
    """BLAKE2b digest of an encoded input."""
    return blake2b(data, digest_size=FINGERPRINT_BYTES).digest()


class StepError(Protocol):
    """Makes the exception that the code sees from a step's recorded failure."""

    def __call__(self, failure: ev.Failure, *, step: str, attempts: int) -> BaseException: ...


class Matching(Patching):
    """Open operations meet their outcomes.

    Attributes:
        ended: the workflow function and all it left behind are done.
        terminating: the run ends as terminated, whatever its code makes of its cancellation.
    """

    __slots__ = (
        "_cancelled", "_child_error", "_late_cancel", "_step_error", "cancel_reason", "deadline_passed",
        "deadline_passed_at", "ended", "terminating",
    )  # fmt: skip

    def __init__(
        self, run_id: str, step_error: StepError, child_error: Callable[[ev.ChildEnded, str], BaseException]
    ) -> None:
        super().__init__(run_id)
        self.ended = False
        self.deadline_passed = False
        self.deadline_passed_at = 0.0
        self.terminating = False
        self.cancel_reason: str | None = None
        self._step_error = step_error
        self._child_error = child_error
        self._cancelled = False
        self._late_cancel: ev.CancelRequested | None = None  # it came when the code was done

    # -- steps, timers, children --------------------------------------------------------------------

    def _step_ended(self, event: ev.StepCompleted | ev.StepFailed, value: Any) -> None:
        if event.decision is not None and not self._is_parked(event.step):
            return  # decided twice, or given up meanwhile: the first word counts
        operation = self._take(event, event.step)
        if operation is None:
            return
        if not isinstance(operation, RunStep):
            raise self._unexpected(event)
        self._check_input(event, operation.input)
        future = operation.future
        if isinstance(event, ev.StepCompleted):
            result = operation.decode(event.result) if value is UNSET else value
            if not future.done():
                future.set_result(result)
        elif not future.done():
            _fail(future, self._step_error(event.failure, step=event.step, attempts=event.attempt))

    def _step_noted(self, event: ev.StepStarted | ev.StepAttemptFailed, value: Any) -> None:
        operation = self._known(event, event.step)
        if not isinstance(operation, RunStep):
            return
        if isinstance(event, ev.StepStarted):
            operation.noted = True
            operation.first_at = operation.first_at or event.at
        else:
            operation.noted = False
            operation.failed_attempts = event.attempt
            operation.retry_at = event.retry_at
            operation.first_at = operation.first_at or event.started_at
            operation.last_failure = event.failure
            operation.recalled = self.replaying

    def _step_parked(self, event: ev.StepParked, value: Any) -> None:
        operation = self._known(event, event.step)
        if isinstance(operation, RunStep):
            self._check_input(event, operation.input)
            operation.parked = event
            operation.failed_attempts = event.attempt
            operation.last_failure = event.failure

    def _step_rerun(self, event: ev.StepRerun, value: Any) -> None:
        operation = self.operations.get(event.step)
        if isinstance(operation, RunStep) and operation.parked is not None:
            operation.parked = operation.first_at = operation.last_failure = None
            operation.failed_attempts = 0
            operation.retry_at = 0.0
            operation.noted = False

    def _is_parked(self, op_id: str) -> bool:
        operation = self.operations.get(op_id)
        return isinstance(operation, RunStep) and operation.parked is not None

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

    def _drop_noted(self, event: ev.OperationDropped, value: Any) -> None:
        if event.operation not in self._dropped:
            raise self._unexpected(event)

    def _child_started(self, event: ev.ChildStarted, value: Any) -> None:
        operation = self._known(event, event.child)
        if not isinstance(operation, StartChild):
            dropped = self._dropped.get(event.child)
            if dropped is not None:  # given up while its start was on its way to the log
                dropped.recorded = True
                self._commands.append(CancelOperation(dropped))
            return
        self._check_input(event, operation.input)
        operation.recorded = True
        if self._fresh.pop(operation.id, None) is not None and self._doubt is not None:
            self._check_doubt(operation.id)
        if operation.started is not None and not operation.started.done():
            operation.started.set_result(None)

    def _child_ended(self, event: ev.ChildEnded, value: Any) -> None:
        operation = self._take(event, event.child)
        if operation is None:
            self._commands = [
                command
                for command in self._commands
                if not (isinstance(command, CancelOperation) and command.operation.id == event.child)
            ]
            return
        if not isinstance(operation, StartChild):
            raise self._unexpected(event)
        if operation.ended.done():
            return
        if event.result is not None:
            operation.ended.set_result(operation.decode(event.result) if value is UNSET else value)
        else:
            _fail(operation.ended, self._child_error(event, operation.run_id))

    # -- updates ------------------------------------------------------------------------------------

    def _update_accepted(self, event: ev.UpdateAccepted, value: Any) -> None:
        handler = None if self.handlers is None else self.handlers.updates.get(event.name)
        if handler is None or self.ended:
            raise self._unexpected(event)
        assert self.handlers is not None
        self.handlers.begin(self, handler, event)

    def _update_completed(self, event: ev.UpdateCompleted, value: Any) -> None:
        """On replay it must have ended in the same way; an exception's text may tell of places in memory."""
        done = None if self._records is None else self._records.pop(event.op, None)
        if done is None:
            raise self._unexpected(event)
        record = done.record
        assert isinstance(record, ev.UpdateCompleted)
        if record.result != event.result or _type(record.failure) != _type(event.failure):
            raise mismatch.changed_record(self.run_id, self.seq, event, record, self.loop)
        self._fresh.pop(event.op, None)

    # -- callbacks ----------------------------------------------------------------------------------

    def _callback_opened(self, event: ev.CallbackOpened, value: Any) -> None:
        operation = self._known(event, event.op)
        if operation is None:
            return
        if not isinstance(operation, AwaitCallback):
            raise self._unexpected(event)
        operation.timeout, operation.heartbeat = event.timeout, event.heartbeat
        operation.opened_at = event.at
        operation.recorded = True

    def _callback_ended(self, event: ev.CallbackEnded, value: Any) -> None:
        operation = self._take(event, event.callback)
        if operation is None:
            return
        if not isinstance(operation, AwaitCallback):
            raise self._unexpected(event)
        if not self.replaying:
            self._commands.append(CancelOperation(operation))  # the clock needn't be watched any more
        told = event.failure.message if event.failure is not None else ""
        if event.result is not None:
            operation.ended.set_result(operation.decode(event.result) if value is UNSET else value)
        elif event.timed_out:
            _fail(operation.ended, TimeoutError(told))
        else:
            _fail(operation.ended, CallbackFailed(told, callback=event.callback))

    def read_callback(self, event: ev.CallbackEnded) -> tuple[ev.CallbackEnded, Any]:
        """Before what came for a callback is recorded: decode it. If it doesn't fit, it is a failure.

        Whoever sends a value of another type than the code expects mustn't block the run.
        """
        operation = self.operations.get(event.callback)
        if event.result is None or not isinstance(operation, AwaitCallback):
            return event, UNSET
        try:
            return event, operation.decode(event.result)
        except UndecodableError as error:
            told = f"a value came that isn't what the code expects. {error.__cause__ or error}"
            failure = ev.Failure(type="perdure.errors.CallbackFailed", message=told)
            return msgspec.structs.replace(event, result=None, failure=failure), UNSET

    # -- messages -----------------------------------------------------------------------------------

    def _message_received(self, event: ev.MessageReceived, value: Any) -> None:
        self.open_mailbox().put(self.seq, event)

    def _message_awaited(self, event: ev.MessageAwaited, value: Any) -> None:
        operation = self._known(event, event.receive)
        if isinstance(operation, AwaitMessage):
            operation.noted = True

    def _message_sent(self, event: ev.MessageSent | ev.MessageRefused, value: Any) -> None:
        operation = self._take(event, event.message)
        if operation is None:
            return
        if not isinstance(operation, SendMessage):
            raise self._unexpected(event)
        if (event.run, event.name) != (operation.to, operation.name):
            raise mismatch.changed_address(self.run_id, self.seq, event, operation, self.loop)
        if isinstance(event, ev.MessageRefused):
            if not operation.future.done():
                _fail(operation.future, _refusal(event))
            return
        self._check_recorded(event, event.payload, event.fingerprint, operation.payload)
        if not operation.future.done():
            operation.future.set_result(None)

    # -- the run as a whole -------------------------------------------------------------------------

    def _cancel_requested(self, event: ev.CancelRequested, value: Any) -> None:
        if self.loop.root is not None and self.loop.root.done():
            self._late_cancel = event
        if event.terminate and not self.terminating and not self.ended:
            self.terminating = True
            self.cancel_reason = event.reason
        self._cancel(event.reason)

    def _deadline(self, event: ev.DeadlinePassed, value: Any) -> None:
        if self.ended:  # by what was recorded before, and this changes nothing any more
            return
        self.deadline_passed = True
        self.deadline_passed_at = event.at
        self._cancel("the run's timeout is over")

    def _ended(self, event: ev.Event, value: Any) -> None:
        if not self.ended and not self.deadline_passed:
            raise self._unexpected(event)

    def _refuse(self, event: ev.Event, value: Any) -> None:
        raise self._unexpected(event)

    def _pass_over(self, event: ev.Event, value: Any) -> None:
        """It is there for people only."""

    def _cancel(self, reason: str | None) -> None:
        """Deliver the run's cancellation: once, to the root task, as asyncio does."""
        root = self.loop.root
        if self._cancelled or root is None or root.done():
            return
        self._cancelled = True
        if not self.terminating:
            self.cancel_reason = reason
        root.cancel(reason)

    # -- matching -----------------------------------------------------------------------------------

    def _confirm(self, event: Any, value: Any) -> None:
        """What the code did is written down: on replay it must have done just that again."""
        done = None if self._records is None else self._records.pop(event.op, None)
        if done is None:
            raise self._unexpected(event)
        if msgspec.structs.replace(done.record, at=event.at) != event:
            raise mismatch.changed_record(self.run_id, self.seq, event, done.record, self.loop)
        if self._fresh.pop(event.op, None) is not None and self._doubt is not None:
            self._check_doubt(event.op)

    def _attributes_noted(self, event: ev.AttributesSet, value: Any) -> None:
        if event.op:
            self._confirm(event, value)

    # -- looking up ---------------------------------------------------------------------------------

    def _take(self, event: ev.Event, op_id: str) -> OpenOperation | None:
        """Close the open operation that an outcome belongs to; None if the code dropped it."""
        operation = self.operations.pop(op_id, None)
        if operation is None:
            if op_id not in self._dropped:
                raise self._unexpected(event)
            return None
        if self._fresh.pop(op_id, None) is not None and self._doubt is not None:
            self._check_doubt(op_id)
        return operation

    def _check_doubt(self, op_id: str) -> None:
        """An outcome of what was asked for after a doubtful message: the code had received that."""
        doubt = self._doubt
        if doubt is not None and op_id == f"message:{doubt.number}":
            self._doubt = None  # it is set aside in the history
        elif doubt is not None and op_id not in doubt.known:
            raise doubt.error

    def _known(self, event: ev.Event, op_id: str) -> OpenOperation | None:
        """The open operation a note is about; None if the code dropped it."""
        operation = self.operations.get(op_id)
        if operation is None and op_id not in self._dropped:
            raise self._unexpected(event)
        return operation

    def _check_input(
        self, event: ev.StepCompleted | ev.StepFailed | ev.StepParked | ev.ChildStarted, asked: bytes
    ) -> None:
        self._check_recorded(event, event.input, event.fingerprint, asked)

    def _check_recorded(
        self, event: ev.Event, recorded: bytes | None, digest: bytes | None, asked: bytes
    ) -> None:
        if recorded is not None:
            if recorded != asked:
                raise mismatch.changed_input(self.run_id, self.seq, event, recorded, asked, self.loop)
        elif digest is not None and digest != fingerprint(asked):
            raise mismatch.changed_input(self.run_id, self.seq, event, None, asked, self.loop)

    def _unexpected(self, event: ev.Event) -> NonDeterminismError | UndecodableError:
        if (
            self._doubt is not None
        ):  # more likely the code goes another way because of a message it can't read
            return self._doubt.error
        return mismatch.unexpected_event(
            self.run_id, self.seq, event, self.operations.values(), self.ended, self.loop
        )


def _type(failure: ev.Failure | None) -> str | None:
    return None if failure is None else failure.type


def _refusal(event: ev.MessageRefused) -> UnknownRunError | RunEndedError:
    if event.why == "run_ended":
        return RunEndedError(
            f"message {event.name!r} couldn't be sent to run {event.run!r}: that run has ended. Whatever it "
            "still needs to hear has to come before it ends"
        )
    return UnknownRunError(
        f"message {event.name!r} couldn't be sent to run {event.run!r}: no run has this id. Start it first",
        run_id=event.run,
    )


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Give a future an exception, without a complaint if the code never looks at it."""
    future.set_exception(error)
    future.exception()
