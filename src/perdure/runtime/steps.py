"""Executes steps: async ones as tasks of the event loop, sync ones in a bounded pool of threads.

An attempt ends in exactly one event handed to its run: StepCompleted, StepFailed, or StepAttemptFailed with
the time of the next attempt. Only when that event is durable does the run hear of it. An attempt nobody
waits for any more is interrupted and ends in no event at all; one that was *abandoned* goes on to its end,
which the history notes if the run is still there, and is never followed by another.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from perdure.codec.failures import failure_of
from perdure.codec.values import check_size
from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.matching import fingerprint
from perdure.core.retry import decide
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.stepcontext import StepInfo, current_step

logger = logging.getLogger("perdure.steps")

_EAGER = sys.version_info >= (3, 12)
_eager_task: Any = asyncio.Task  # the type checkers look at it as Python 3.11's
_UNSURE_PAUSE = 0.02  # seconds between looks at whether attempts may begin, see StepExecutor.sure_until


class StepCall(Protocol):
    """What a step's Call tells its executor."""

    @property
    def definition(self) -> StepDefinition: ...
    @property
    def options(self) -> StepOptions: ...
    def arguments(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the arguments, so that what a step does to them isn't seen by the workflow."""
        ...


class OpenWork(Protocol):
    """The table of a run's attempts."""

    def attempt_over(self, operation: RunStep) -> None: ...


class Recorder(Protocol):
    """The run that a step belongs to."""

    @property
    def id(self) -> str: ...
    @property
    def work(self) -> OpenWork: ...
    def record(self, event: ev.Event, value: Any = ...) -> None: ...


class Attempt(msgspec.Struct, eq=False):
    """One attempt of one step. Once `dropped`, its end is no event any more; once `abandoned`, it is the last."""

    run: Recorder
    operation: RunStep
    info: StepInfo
    started_at: float
    future: asyncio.Future[Any] | None = None
    dropped: bool = False
    abandoned: bool = False
    over: bool = False

    def cancel(self) -> None:
        """Nobody waits for it any more: interrupt an async step, tell a sync one."""
        self.dropped = self.info.cancelled = True
        if self.future is not None:
            self.future.cancel()


class StepExecutor:
    """Runs the steps of one engine.

    Args:
        clock: wall-clock seconds.
        concurrency: how many attempts execute at once; more wait in line.
        threads: how many of them may be sync steps.
        max_payload: largest encoded result in bytes.
        chance: random numbers in [0, 1) for the jitter of retries.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        concurrency: int,
        threads: int,
        max_payload: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._concurrency = concurrency
        self._max_payload = max_payload
        self._chance = chance
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._line: deque[Attempt] = deque()
        self._closed = False
        self._sure_until = math.inf
        self._context = contextvars.copy_context()  # what steps see: the engine's, and nothing of each other
        self.executing: set[Attempt] = set()

    def start(self, run: Recorder, operation: RunStep) -> Attempt:
        """Begin the next attempt of a step as soon as there is room."""
        info = StepInfo(run.id, operation.id, operation.name, operation.failed_attempts + 1)
        attempt = Attempt(run, operation, info, self._clock())
        if len(self.executing) >= self._concurrency or self._closed or attempt.started_at >= self._sure_until:
            self._line.append(attempt)
        else:
            self._begin(attempt)
        return attempt

    def sure_until(self, moment: float) -> None:
        """The runs here are nobody else's until then (wall clock); later, no attempt begins.

        A process that slept past its lease wakes up believing that the next attempts are its own to make. They
        wait in line until a heartbeat has told whether they are, or the runs are dropped.
        """
        self._sure_until = moment
        self._begin_next()

    async def close(self, grace: float) -> None:
        """Let executing attempts finish for up to `grace` seconds, then cancel them; begin no more."""
        self._closed = True
        self._line.clear()
        deadline = self._loop.time() + grace
        while self.executing and (left := deadline - self._loop.time()) > 0:
            futures = [attempt.future for attempt in self.executing if attempt.future is not None]
            await asyncio.wait(futures, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for attempt in list(self.executing):
            attempt.cancel()
        tasks = [attempt.future for attempt in self.executing if isinstance(attempt.future, asyncio.Task)]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # time for their finally blocks
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # -- one attempt --------------------------------------------------------------------------------

    def _begin(self, attempt: Attempt) -> None:
        if attempt.operation.unfit is not None:
            self._loop.call_soon(self._failed, attempt, attempt.operation.unfit)
            return
        self.executing.add(attempt)
        attempt.started_at = self._clock()
        definition: StepDefinition = attempt.operation.call.definition
        execute = self._execute_async if definition.is_async else self._execute_sync
        body, context = execute(attempt, definition), self._context.copy()
        if _EAGER:  # a step that doesn't wait for anything is then done already
            attempt.future = _eager_task(body, loop=self._loop, context=context, eager_start=True)
        else:
            attempt.future = asyncio.Task(body, loop=self._loop, context=context)

    async def _execute_async(self, attempt: Attempt, definition: StepDefinition) -> None:
        current_step.set(attempt.info)
        operation = attempt.operation
        timeout = operation.call.options.timeout
        limit = None
        try:
            while self._clock() >= self._sure_until:  # noqa: ASYNC110 - rare: the process slept just now
                await asyncio.sleep(_UNSURE_PAUSE)
            args, kwargs = operation.call.arguments(operation.input)
            if timeout is None:
                value = await definition.function(*args, **kwargs)
            else:
                async with asyncio.timeout(timeout) as limit:
                    value = await definition.function(*args, **kwargs)
                    if not limit.expired():  # else the body has swallowed its cancellation, and has a result
                        limit.reschedule(None)
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
            if limit is not None and limit.expired() and isinstance(error, TimeoutError):
                error = _timeout_error(attempt)
            self._settle(attempt, definition, None, error)
        else:
            self._settle(attempt, definition, value, None)

    async def _execute_sync(self, attempt: Attempt, definition: StepDefinition) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="perdure-step")
        context = contextvars.copy_context()
        context.run(current_step.set, attempt.info)
        timeout = attempt.operation.call.options.timeout
        work = self._loop.run_in_executor(
            self._pool, lambda: context.run(self._call_sync, definition, attempt)
        )
        try:
            done, _ = await asyncio.wait([work], timeout=timeout)
        except asyncio.CancelledError as error:
            attempt.info.cancelled = True
            work.cancel()
            self._settle(attempt, definition, None, error)
            return
        if not done:
            attempt.info.cancelled = True
            work.cancel()
            self._settle(attempt, definition, None, _timeout_error(attempt))
            return
        value, raised = work.result()
        if raised is None and inspect.isawaitable(value):  # a plain function that returns a coroutine
            current_step.set(attempt.info)
            try:
                value = await value
            except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
                raised = error
        self._settle(attempt, definition, value, raised)

    def _call_sync(self, definition: StepDefinition, attempt: Attempt) -> tuple[Any, BaseException | None]:
        """Runs in a thread. Errors are returned, since some (StopIteration) can't travel through a future."""
        while self._clock() >= self._sure_until and not attempt.info.cancelled:
            time.sleep(_UNSURE_PAUSE)  # the process slept while this waited for a thread
        if attempt.info.cancelled:
            return None, asyncio.CancelledError()
        try:
            args, kwargs = attempt.operation.call.arguments(attempt.operation.input)
            return definition.function(*args, **kwargs), None
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
            return None, error

    def _settle(
        self, attempt: Attempt, definition: StepDefinition, value: Any, error: BaseException | None
    ) -> None:
        """The body is done: turn what came of it into an event."""
        try:
            if error is None:
                self._returned(attempt, definition, value)
            else:
                self._failed(attempt, error)
        except Exception:  # the engine's own error: the step stays open, and it mustn't go unheard
            logger.critical("step %s couldn't be recorded", attempt.operation.id, exc_info=True)

    def _returned(self, attempt: Attempt, definition: StepDefinition, value: Any) -> None:
        operation = attempt.operation
        try:
            data, decoded = definition.result.record(value)
            check_size(data, self._max_payload, f"result of step {definition.name}")
        except Exception as error:  # noqa: BLE001 - a result that can't be kept is the step's failure
            self._failed(attempt, error)
            return
        self._over(attempt)
        if attempt.dropped:
            return
        given, digest = _recorded_input(operation)
        number, began = attempt.info.attempt, attempt.started_at
        event = ev.StepCompleted(self._clock(), operation.id, number, began, data, given, digest)
        attempt.run.record(event, decoded)

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        self._over(attempt)
        if isinstance(error, KeyboardInterrupt) and not attempt.dropped:
            attempt.dropped = True  # the process is going down: the step is neither done nor failed
            raise error
        if attempt.dropped:
            return
        operation = attempt.operation
        options: StepOptions = operation.call.options
        now = self._clock()
        number = attempt.info.attempt
        first_at = operation.first_at or attempt.started_at
        decision = decide(
            options.retry,
            error,
            attempt=number,
            now=now,
            chance=self._chance(),
            deadline=None if options.deadline is None else first_at + options.deadline,
        )
        failure = failure_of(error)
        if decision.retry_at is not None and not (attempt.abandoned or operation.concluding):
            attempt.run.record(
                ev.StepAttemptFailed(
                    at=now,
                    step=operation.id,
                    attempt=number,
                    failure=failure,
                    retry_at=decision.retry_at,
                    started_at=attempt.started_at,
                )
            )
            return
        self._fail(attempt.run, operation, number, attempt.started_at, failure)

    def give_up(self, run: Recorder, operation: RunStep) -> None:
        """The step was cancelled while none of its attempts executes: it has failed with what it has so far."""
        why = "it was cancelled before its first attempt began"
        failure = operation.last_failure or failure_of(asyncio.CancelledError(why))
        self._fail(run, operation, operation.failed_attempts, self._clock(), failure)

    def _fail(
        self, run: Recorder, operation: RunStep, attempt: int, started_at: float, failure: ev.Failure
    ) -> None:
        given, digest = _recorded_input(operation)
        event = ev.StepFailed(self._clock(), operation.id, attempt, started_at, failure, given, digest)
        run.record(event)

    def _over(self, attempt: Attempt) -> None:
        """The attempt's place is free: let the next in line begin."""
        attempt.over = True
        self.executing.discard(attempt)
        attempt.run.work.attempt_over(attempt.operation)
        if self._line:
            self._begin_next()

    def _begin_next(self) -> None:
        if self._clock() >= self._sure_until:
            return
        while self._line and len(self.executing) < self._concurrency and not self._closed:
            following = self._line.popleft()
            if not following.dropped:
                self._begin(following)


def _recorded_input(operation: RunStep) -> tuple[bytes | None, bytes | None]:
    """What the history keeps of a step's input: all of it if it is small, else its fingerprint."""
    if operation.unfit is not None:
        return None, None  # there is none, and code that encodes without the checks mustn't be held to it
    given = operation.input
    if len(given) <= operation.call.options.record_inputs:
        return given, None
    return None, fingerprint(given)


def _timeout_error(attempt: Attempt) -> TimeoutError:
    seconds = attempt.operation.call.options.timeout
    return TimeoutError(
        f"attempt {attempt.info.attempt} of step {attempt.operation.name} took longer than its timeout of {seconds:g} s"
    )
