"""The machine: events in, commands out.

One machine drives the code of one run. It is fed the run's events one at a time, in recorded order; after
each it drains the run's loop and notes what the code asked for meanwhile. Whether an event was just
recorded or comes from a history of last year makes no difference to it: that is what replay is.

Operations the code asked for are *open* until their outcome is fed. The ones whose outcome isn't in the
history are handed out by `take_commands()` once the history is used up, and only then carried out. An
event that no open operation fits is a divergence, and is refused before any command gets out.

An operation the code stopped waiting for (it was cancelled) is *dropped*: an outcome that was on its way
to the log already may still arrive, and is passed over, live and on replay alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any, Protocol, assert_never

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.asking import Asking
from perdure.core.commands import (
    CancelOperation,
    Ending,
    Finish,
    Operation,
    RunStep,
    StartChild,
    StartTimer,
)
from perdure.errors import NonDeterminismError, TurnLimitError

_UNSET: Any = object()

FINGERPRINT_BYTES = 16


def fingerprint(data: bytes) -> bytes:
    """BLAKE2b digest of an encoded input."""
    return blake2b(data, digest_size=FINGERPRINT_BYTES).digest()


class StepError(Protocol):
    """Makes the exception that the code sees from a step's recorded failure."""

    def __call__(self, failure: ev.Failure, *, step: str, attempts: int) -> BaseException: ...


class Machine(Asking):
    """The state of one run, rebuilt from its events.

    Args:
        run_id: the run's public id.
        workflow: the workflow's durable name.
        main: makes the workflow's coroutine from the first event.
        step_error: makes the exception the code sees from a recorded failure.
        child_error: makes the exception the code sees from a child's end.
        max_payload: largest encoded input in bytes that its calls may have.

    Attributes:
        replaying: events being fed are history; the code's log and error reports are silent.
        inert: the run is leaving memory; durable calls unwind instead of doing anything.
        ended: the workflow function and all it left behind are done.
    """

    __slots__ = (
        "_cancelled", "_child_error", "_main", "_step_error", "cancel_reason", "deadline_passed",
        "deadline_passed_at", "ended", "max_payload", "replaying", "seq", "workflow",
    )  # fmt: skip

    def __init__(
        self,
        run_id: str,
        workflow: str,
        main: Callable[[ev.RunStarted], Coroutine[Any, Any, Any]],
        step_error: StepError,
        child_error: Callable[[ev.ChildEnded, str], BaseException],
        max_payload: int,
    ) -> None:
        super().__init__(run_id)
        self.workflow = workflow
        self.max_payload = max_payload
        self.replaying = False
        self.ended = False
        self.deadline_passed = False
        self.deadline_passed_at = 0.0
        self.cancel_reason: str | None = None
        self.seq = 0
        self._main = main
        self._step_error = step_error
        self._child_error = child_error
        self._cancelled = False

    # -- events in ----------------------------------------------------------------------------------

    def begin(self, event: ev.RunStarted, at: float) -> None:
        """Feed the first event. `at` is when the run was first driven: the code's first idea of now."""
        assert self.started is None, "a run begins once"
        if event.workflow != self.workflow:
            raise mismatch.changed_workflow(self.run_id, event.workflow, self.workflow)
        self.started = event
        self.seq = 1
        self.loop.now = at
        self.loop.start(self._main(event))
        self._settle()

    def feed(self, event: ev.Event, value: Any = _UNSET) -> None:
        """Feed the next event and let the code go on as far as it gets.

        Args:
            value: the decoded result, if the caller has it at hand.

        Raises:
            NonDeterminismError: the code didn't ask for this.
            UndecodableError: the recorded value doesn't fit the code's type.
            TurnLimitError: the code was interrupted because it didn't come to an await.
        """
        self.seq += 1
        if event.at > self.loop.now:
            self.loop.now = event.at
        match event:
            case ev.StepCompleted() | ev.StepFailed():
                self._step_ended(event, value)
            case ev.TimerFired():
                self._timer_fired(event)
            case ev.StepAttemptFailed() | ev.StepStarted():
                self._step_noted(event)
                return
            case ev.TimerStarted():
                timer = self._known(event, event.timer)
                if isinstance(timer, StartTimer):
                    timer.noted = True
                return
            case ev.OperationDropped():
                if event.operation not in self._dropped:
                    raise self._unexpected(event)
                return
            case ev.ChildStarted():
                self._child_started(event)
            case ev.ChildEnded():
                self._child_ended(event, value)
            case ev.CancelRequested():
                self._cancel(event.reason)
            case ev.DeadlinePassed():
                self.deadline_passed = True
                self.deadline_passed_at = event.at
                self._cancel("the run's timeout is over")
            case ev.RunRecovered() | ev.RunTerminated():
                return
            case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled():
                if not self.ended and not self.deadline_passed:
                    raise self._unexpected(event)
                return
            case ev.RunStarted():
                raise self._unexpected(event)
            case _:
                assert_never(event)
        self._settle()

    def _step_ended(self, event: ev.StepCompleted | ev.StepFailed, value: Any) -> None:
        operation = self._take(event, event.step)
        if operation is None:
            return
        if not isinstance(operation, RunStep):
            raise self._unexpected(event)
        self._check_input(event, operation.input)
        future = operation.future
        if isinstance(event, ev.StepCompleted):
            result = operation.decode(event.result) if value is _UNSET else value
            if not future.done():
                future.set_result(result)
        elif not future.done():
            _fail(future, self._step_error(event.failure, step=event.step, attempts=event.attempt))

    def _step_noted(self, event: ev.StepStarted | ev.StepAttemptFailed) -> None:
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

    def _timer_fired(self, event: ev.TimerFired) -> None:
        operation = self._take(event, event.timer)
        if operation is None:
            return
        if not isinstance(operation, StartTimer):
            raise self._unexpected(event)
        self.loop.fire(operation.handle)

    def _child_started(self, event: ev.ChildStarted) -> None:
        operation = self._known(event, event.child)
        if not isinstance(operation, StartChild):
            dropped = self._dropped.get(event.child)
            if dropped is not None:  # given up while its start was on its way to the log
                dropped.recorded = True
                self._commands.append(CancelOperation(dropped))
            return
        self._check_input(event, operation.input)
        operation.recorded = True
        self._fresh.pop(operation.id, None)
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
            operation.ended.set_result(operation.decode(event.result) if value is _UNSET else value)
        else:
            _fail(operation.ended, self._child_error(event, operation.run_id))

    def _cancel(self, reason: str | None) -> None:
        """Deliver the run's cancellation: once, to the root task, as asyncio does."""
        root = self.loop.root
        if self._cancelled or root is None or root.done():
            return
        self._cancelled = True
        self.cancel_reason = reason
        root.cancel(reason)

    # -- matching -----------------------------------------------------------------------------------

    def _take(self, event: ev.Event, op_id: str) -> RunStep | StartTimer | StartChild | None:
        """Close the open operation that an outcome belongs to; None if the code dropped it."""
        operation = self.operations.pop(op_id, None)
        if operation is None:
            if op_id not in self._dropped:
                raise self._unexpected(event)
            return None
        self._fresh.pop(op_id, None)
        return operation

    def _known(self, event: ev.Event, op_id: str) -> RunStep | StartTimer | StartChild | None:
        """The open operation a note is about; None if the code dropped it."""
        operation = self.operations.get(op_id)
        if operation is None and op_id not in self._dropped:
            raise self._unexpected(event)
        return operation

    def _check_input(self, event: ev.StepCompleted | ev.StepFailed | ev.ChildStarted, asked: bytes) -> None:
        if event.input is not None:
            if event.input != asked:
                raise mismatch.changed_input(self.run_id, self.seq, event, event.input, asked, self.loop)
        elif event.fingerprint is not None and event.fingerprint != fingerprint(asked):
            raise mismatch.changed_input(self.run_id, self.seq, event, None, asked, self.loop)

    def _unexpected(self, event: ev.Event) -> NonDeterminismError:
        return mismatch.unexpected_event(
            self.run_id, self.seq, event, self.operations.values(), self.ended, self.loop
        )

    # -- the code's turn ----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Drain the loop; when the workflow function is done, wind up what it left running."""
        if self.ended:  # what its last turn was recorded with, and of no more concern
            return
        loop = self.loop
        root = loop.root
        assert root is not None
        loop.silent = self.replaying
        try:
            loop.drain()
            while root.done() and loop.has_leftovers() and loop.wind_up() and not loop.interrupted:
                loop.drain()
        except SystemExit as error:
            loop.silent = True  # it is the run's outcome now: asyncio needn't report it as unheard
            self._finish(Ending.RAISED, error=error)
            return
        if loop.interrupted:
            raise self.turn_limit_error()
        if root.done() and not loop.live_tasks():
            self._read_outcome()

    def _read_outcome(self) -> None:
        root = self.loop.root
        assert root is not None
        if root.cancelled():
            self._finish(Ending.CANCELLED)
        elif (error := root.exception()) is not None:
            self._finish(Ending.RAISED, error=error)
        else:
            self._finish(Ending.RETURNED, value=root.result())

    def _finish(self, ending: Ending, value: Any = None, error: BaseException | None = None) -> None:
        self.ended = True
        for command in self._fresh.values():  # asked for, never to be awaited
            if isinstance(command, Operation):
                self.operations.pop(command.id, None)
                self._dropped[command.id] = None
        self._fresh.clear()
        self._commands.append(Finish(ending, value, error))

    def stuck(self) -> str | None:
        """Why only a cancellation can still wake the code, None if something else may."""
        if self.operations or self.ended:
            return None
        where = "".join(f"\n  code is at: {place}" for place in mismatch.where(self.loop)[:6])
        return (
            "the code waits for something that no step, timer or child will bring, such as an Event that nobody "
            f"sets or a Queue that nobody fills. Only a cancellation can end this wait.{where}"
        )

    def turn_limit_error(self) -> TurnLimitError:
        return TurnLimitError(
            f"run {self.run_id!r} was interrupted: its workflow code ran on without awaiting anything "
            "durable for longer than the engine's turn_limit. Move long computations into a @step, and let "
            "loops await something; the run is blocked until its code is mended."
        )

    # -- leaving memory -----------------------------------------------------------------------------

    def close(self) -> None:
        """Unwind the code without any effect: the run is leaving memory, or its state is void."""
        if not self.inert:
            self.inert = True
            self.supervisor = None
            if not self.ended or self.loop.has_leftovers():
                self.loop.abandon()
            self.operations.clear()
            self._fresh.clear()
            self._commands.clear()


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Give a future an exception, without a complaint if the code never looks at it."""
    future.set_exception(error)
    future.exception()
