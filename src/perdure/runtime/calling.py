"""Calls what a step is made of: async functions in the event loop, sync ones in a bounded pool of threads (or of
processes, see processcalls.py).

What is called sees its attempt in `current_step`, is cut off by its time-outs, and never raises into the
executor: its error is returned, since some (StopIteration) can't travel through a future.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from perdure.runtime.attempt import Attempt, TooLate
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.heartbeats import Heartbeats, starved_error
from perdure.runtime.outbox import Outlet
from perdure.runtime.stepcontext import current_attempt, current_step

if TYPE_CHECKING:
    from perdure.runtime.processcalls import ProcessCalls

_UNSURE_PAUSE = 0.02  # seconds between looks at whether attempts may begin, see sure_until

_UNSURE = TooLate()  # what a thread answers that doesn't know whether it may begin


class Calls:
    """Where the functions of one engine's steps execute.

    Args:
        clock: wall-clock seconds.
        threads: how many sync functions execute at once.
        processes: how many steps with process=True do.
        max_payload: largest encoded result of those, in bytes.
        outlet: makes an attempt's way into streams.

    Attributes:
        sure_until: after this moment no body begins, see StepExecutor.sure_until.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        heartbeats: Heartbeats,
        *,
        threads: int,
        processes: int,
        max_payload: int,
        outlet: Callable[[Attempt], Outlet],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._heartbeats = heartbeats
        self._threads = threads
        self._outlet = outlet
        self._pool: ThreadPoolExecutor | None = None
        self._process_calls: ProcessCalls | None = None
        self._processes = processes
        self._max_payload = max_payload
        self.sure_until = math.inf

    async def close(self) -> None:
        if self._process_calls is not None:
            await self._process_calls.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, attempt: Attempt, function: Callable[..., Any]) -> tuple[Any, BaseException | None]:
        """Call a function with the step's arguments, as its body is called. Returns its value, or its error."""
        definition: StepDefinition = attempt.operation.call.definition
        if definition.process and function is definition.run:
            return await self.call_process(attempt)
        if inspect.iscoroutinefunction(function):
            return await self.call_async(attempt, function)
        return await self.call_sync(attempt, function)

    async def call_async(
        self, attempt: Attempt, function: Callable[..., Any]
    ) -> tuple[Any, BaseException | None]:
        """In the event loop."""
        current_step.set(attempt.info)
        current_attempt.set(attempt)
        operation = attempt.operation
        call = operation.call
        options: StepOptions = call.options
        timeout = options.timeout
        limit = None
        try:
            args, kwargs = call.arguments(operation.input)
            if self._clock() >= self.sure_until:  # as late as can be: it is to hold when the body begins
                await self._be_sure()
            if attempt.permission is not None and self._void(attempt, function):
                return None, TooLate()
            if options.heartbeat_timeout is not None and function is call.definition.run:
                self._heartbeats.watch(attempt, options.heartbeat_timeout)
                attempt.info.heard = self._heartbeats.monotonic()
            if timeout is None:
                return await (function(*args, **kwargs) if kwargs else function(*args)), None
            async with asyncio.timeout(timeout) as limit:
                value = await function(*args, **kwargs)
                if not limit.expired():  # else the body has swallowed its cancellation, and has a result
                    limit.reschedule(None)
                return value, None
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
            if limit is not None and limit.expired() and isinstance(error, TimeoutError):
                return None, _timeout_error(attempt)
            if attempt.starved and isinstance(error, asyncio.CancelledError):
                return None, starved_error(attempt)
            return None, error

    async def call_sync(
        self, attempt: Attempt, function: Callable[..., Any]
    ) -> tuple[Any, BaseException | None]:
        """In a thread."""
        while True:
            value, error = await self._call_sync(attempt, function)
            if error is not _UNSURE:
                return value, error
            try:
                await self._be_sure()
            except asyncio.CancelledError as cancelled:
                attempt.info.cancelled = True
                return None, cancelled

    async def _call_sync(
        self, attempt: Attempt, function: Callable[..., Any]
    ) -> tuple[Any, BaseException | None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="perdure-step")
        context = contextvars.copy_context()
        context.run(current_step.set, attempt.info)
        context.run(current_attempt.set, attempt)
        call = attempt.operation.call
        options: StepOptions = call.options
        if options.heartbeat_timeout is not None and function is call.definition.run:
            self._heartbeats.watch(attempt, options.heartbeat_timeout)
        work = self._loop.run_in_executor(
            self._pool, lambda: context.run(self._call_in_thread, function, attempt)
        )
        try:
            done, _ = await asyncio.wait([work], timeout=options.timeout)
        except asyncio.CancelledError as error:
            attempt.info.cancelled = True
            work.cancel()
            return None, starved_error(attempt) if attempt.starved else error
        if not done:
            attempt.info.cancelled = True
            work.cancel()
            return None, _timeout_error(attempt)
        value, raised = work.result()
        if raised is None and inspect.isawaitable(value):  # a plain function that returns a coroutine
            current_step.set(attempt.info)
            try:
                value = await value
            except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
                raised = error
        return value, raised

    async def call_process(self, attempt: Attempt) -> tuple[Any, BaseException | None]:
        """The body, in a process of its own. Its value comes encoded."""
        if self._process_calls is None:
            from perdure.runtime.processcalls import (
                ProcessCalls,
            )  # POSIX only, and most engines have no such steps

            self._process_calls = ProcessCalls(
                self._loop,
                self._heartbeats,
                size=self._processes,
                max_payload=self._max_payload,
                outlet=self._outlet,
            )
        return await self._process_calls.call(attempt, self._be_sure, _timeout_error)

    def _void(self, attempt: Attempt, function: Callable[..., Any]) -> bool:
        """Whether its permission of rate limits has run out meanwhile. From any thread."""
        permission = attempt.permission
        return (
            permission is not None
            and function is attempt.operation.call.definition.run
            and permission.void(self._clock())
        )

    async def _be_sure(self) -> None:
        while self._clock() >= self.sure_until:  # noqa: ASYNC110 - rare: the process slept just now
            await asyncio.sleep(_UNSURE_PAUSE)

    def _call_in_thread(
        self, function: Callable[..., Any], attempt: Attempt
    ) -> tuple[Any, BaseException | None]:
        """Runs in a thread. Errors are returned, since some (StopIteration) can't travel through a future."""
        info = attempt.info
        attempt.in_thread = True
        try:
            args, kwargs = attempt.operation.call.arguments(attempt.operation.input)
            if info.cancelled:
                return None, asyncio.CancelledError()
            if self._clock() >= self.sure_until:
                return None, _UNSURE  # the process slept while this waited for a thread
            if self._void(attempt, function):
                return None, TooLate()
            info.heard = self._heartbeats.monotonic()
            return function(*args, **kwargs), None
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
            return None, error
        finally:
            attempt.in_thread = False


def _timeout_error(attempt: Attempt) -> TimeoutError:
    seconds = attempt.operation.call.options.timeout
    return TimeoutError(
        f"attempt {attempt.info.attempt} of step {attempt.operation.name} took longer than its timeout of {seconds:g} s"
    )
