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
import random
from collections.abc import Callable, Coroutine, Generator
from hashlib import blake2b
from typing import Any, Protocol, assert_never

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.commands import (
    CancelOperation,
    Command,
    Ending,
    Finish,
    Operation,
    RunStep,
    StartChild,
    StartTimer,
)
from perdure.core.loop import TimerHandle, WorkflowLoop
from perdure.errors import NonDeterminismError, TurnLimitError

_UNSET: Any = object()

FINGERPRINT_BYTES = 16


class Suspended(BaseException):
    """Unwinds workflow code that is leaving memory. A BaseException, so that `except Exception` lets it by."""


def fingerprint(data: bytes) -> bytes:
    """BLAKE2b digest of an encoded input."""
    return blake2b(data, digest_size=FINGERPRINT_BYTES).digest()


class StepError(Protocol):
    """Makes the exception that the code sees from a step's recorded failure."""

    def __call__(self, failure: ev.Failure, *, step: str, attempts: int) -> BaseException: ...


class Machine:
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
        "_cancelled", "_child_error", "_closing", "_commands", "_dropped", "_fresh", "_main", "_random",
        "_step_error", "_timers", "cancel_reason", "deadline_passed", "ended", "inert", "loop", "max_payload", "operations", "replaying",
        "run_id", "seq", "started", "workflow",
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
        self.run_id = run_id
        self.workflow = workflow
        self.max_payload = max_payload
        self.loop = WorkflowLoop(run_id, self._timer_started, self._timer_cancelled)
        self.loop.owner = self
        self.operations: dict[str, RunStep | StartTimer | StartChild] = {}
        self.replaying = False
        self.inert = False
        self.ended = False
        self.deadline_passed = False
        self.cancel_reason: str | None = None
        self.started: ev.RunStarted | None = None
        self.seq = 0
        self._main = main
        self._step_error = step_error
        self._child_error = child_error
        self._dropped: dict[str, StartChild | None] = {}
        self._fresh: dict[str, Command] = {}  # asked for, and not handed out yet
        self._commands: list[Command] = []
        self._timers = 0
        self._cancelled = False
        self._closing = False
        self._random: random.Random | None = None

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
            case ev.ChildStarted():
                self._child_started(event)
            case ev.ChildEnded():
                self._child_ended(event, value)
            case ev.CancelRequested():
                self._cancel(event.reason)
            case ev.DeadlinePassed():
                self.deadline_passed = True
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
        loop = self.loop
        loop.silent = self.replaying
        try:
            loop.drain()
            if not self._closing and loop.root is not None and loop.root.done():
                self._closing = True
                for task in loop.live_tasks():  # as asyncio.run does with tasks left over
                    task.cancel()
                loop.drain()
                for agen in loop.live_generators():
                    loop.create_task(agen.aclose())
                loop.drain()
        except SystemExit as error:
            self._finish(Ending.RAISED, error=error)
            return
        if loop.interrupted:
            raise self.turn_limit_error()
        if self._closing and not self.ended and not loop.live_tasks():
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

    def turn_limit_error(self) -> TurnLimitError:
        return TurnLimitError(
            f"run {self.run_id!r} was interrupted: its workflow code ran on without awaiting anything "
            "durable for longer than the engine's turn_limit. Move long computations into a @step, and let "
            "loops await something; the run is blocked until its code is mended."
        )

    # -- commands out -------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """What the code has asked for that isn't in the history. Each command is handed out once."""
        commands = [*self._fresh.values(), *self._commands] if self._fresh else self._commands
        self._fresh = {}
        self._commands = []
        return commands

    def step(
        self,
        op_id: str,
        name: str,
        call: Any,
        input: bytes,
        decode: Callable[[bytes], Any],
        unfit: Exception | None = None,
    ) -> Generator[Any, Any, Any]:
        """What `await step(...)` runs: ask for the step, wait for its outcome.

        Args:
            unfit: why it can't be executed at all (its input can't be recorded); becomes its outcome.
        """
        self._check_inert()
        loop = self.loop
        future: asyncio.Future[Any] = asyncio.Future(loop=loop)
        operation = RunStep(op_id, loop.now, name=name, call=call, input=input, decode=decode, future=future)
        operation.unfit = unfit
        self._open(operation)
        return self._wait(operation, future)

    def child(
        self,
        op_id: str,
        *,
        run_id: str,
        workflow: str,
        call: Any,
        input: bytes,
        on_parent_close: str,
        decode: Callable[[bytes], Any],
        announce: bool,
    ) -> StartChild:
        """Ask for a child run. With `announce`, `operation.started` tells when it exists."""
        self._check_inert()
        operation = StartChild(
            op_id,
            self.loop.now,
            run_id=run_id,
            workflow=workflow,
            call=call,
            input=input,
            on_parent_close=on_parent_close,
            decode=decode,
            started=self.loop.create_future() if announce else None,
            ended=self.loop.create_future(),
        )
        self._open(operation)
        return operation

    def wait_child(self, operation: StartChild) -> Generator[Any, Any, Any]:
        """Wait for a child run as one waits for a call: giving up the wait cancels the child."""
        return self._wait(operation, operation.ended)

    def wait_started(self, operation: StartChild) -> Generator[Any, Any, Any]:
        """Wait until a child run exists (it was asked for with `announce`)."""
        assert operation.started is not None
        return self._wait(operation, operation.started)

    def cancel_child(self, operation: StartChild) -> None:
        """Ask a started child to cancel, and go on waiting for its end."""
        self._check_inert()
        if operation.id in self.operations:
            self._commands.append(CancelOperation(operation))

    def random(self) -> random.Random:
        """The run's own source of random numbers, seeded by its first event."""
        if self._random is None:
            assert self.started is not None
            self._random = random.Random(self.started.seed)  # noqa: S311 - replayable, not secret
        return self._random

    def _open(self, operation: RunStep | StartTimer | StartChild) -> None:
        if operation.id in self.operations or operation.id in self._dropped:
            msg = f"two operations of run {self.run_id!r} have the same key: {operation.id!r}"
            raise NonDeterminismError(msg)
        self.operations[operation.id] = operation
        self._fresh[operation.id] = operation

    def _wait(self, operation: RunStep | StartChild, future: asyncio.Future[Any]) -> Generator[Any, Any, Any]:
        try:
            return (yield from future)
        except BaseException:
            if not self.inert and self.operations.get(operation.id) is operation:
                self._drop(operation)  # the wait was given up: cancelled, or its task closed
            raise

    def _drop(self, operation: RunStep | StartTimer | StartChild) -> None:
        del self.operations[operation.id]
        fresh = self._fresh.pop(operation.id, None) is not None
        self._dropped[operation.id] = operation if isinstance(operation, StartChild) else None
        if not fresh and (not isinstance(operation, StartChild) or operation.recorded):
            self._commands.append(CancelOperation(operation))

    def _timer_started(self, handle: TimerHandle) -> None:
        if not self.inert:
            self._timers += 1
            self._open(StartTimer(handle.id, self.loop.now, handle, self._timers))

    def _timer_cancelled(self, handle: TimerHandle) -> None:
        operation = self.operations.get(handle.id)
        if not self.inert and isinstance(operation, StartTimer):
            self._drop(operation)

    def _check_inert(self) -> None:
        if self.inert:
            raise Suspended

    # -- leaving memory -----------------------------------------------------------------------------

    def close(self) -> None:
        """Unwind the code without any effect: the run is leaving memory, or its state is void."""
        if not self.inert:
            self.inert = True
            self.loop.abandon()
            self.operations.clear()
            self._fresh.clear()
            self._commands.clear()


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Give a future an exception, without a complaint if the code never looks at it."""
    future.set_exception(error)
    future.exception()
