"""Calls steps in processes: hands an attempt over, passes on what it says meanwhile, and tells what came of it.

What a step raises in its process comes as data, of which an exception is made here (see standins.py).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.codec.redaction import mask_record
from perdure.codec.values import ValueCodec
from perdure.core.tracing import current_trace
from perdure.runtime.attempt import Attempt, Encoded, TooLate
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.heartbeats import Heartbeats, Pulse, starved_error
from perdure.runtime.outbox import Outlet
from perdure.runtime.processes import Processes
from perdure.runtime.processtalk import Announced, Beat, Begun, Item, Job, Late, Logged, Raised, Spent, Used
from perdure.runtime.spending import outlay_of
from perdure.runtime.standins import error_of
from perdure.runtime.stepcontext import current_attempt, current_outlet, current_step

_DETAIL = ValueCodec[Any](Any, "detail of a heartbeat")


class ProcessCalls:
    """Where the steps of one engine execute that have process=True.

    Args:
        size: how many execute at once.
        outlet: makes an attempt's way into streams.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heartbeats: Heartbeats,
        *,
        size: int,
        max_payload: int,
        outlet: Callable[[Attempt], Outlet],
    ) -> None:
        self._heartbeats = heartbeats
        self._max_payload = max_payload
        self._outlet = outlet
        self._processes = Processes(loop, size)

    async def close(self) -> None:
        await self._processes.close()

    async def call(
        self,
        attempt: Attempt,
        sure: Callable[[], Awaitable[None]],
        timed_out: Callable[[Attempt], TimeoutError],
    ) -> tuple[Any, BaseException | None]:
        """Execute an attempt. Returns its encoded value, or its error.

        Args:
            sure: awaited just before the body begins.
            timed_out: makes the error of a time-out.
        """
        options: StepOptions = attempt.operation.call.options

        context = contextvars.copy_context()  # in which what it says is heard, as if its body were here
        context.run(current_step.set, attempt.info)
        context.run(current_attempt.set, attempt)

        def hear(told: Any) -> None:
            context.run(self._hear, attempt, told)

        try:
            answer = await self._processes.execute(self._job(attempt), hear, options.timeout, sure)
        except asyncio.CancelledError as error:
            attempt.info.cancelled = True
            return None, starved_error(attempt) if attempt.starved else error
        except TimeoutError as error:
            attempt.info.cancelled = True
            return None, error if error.args else timed_out(attempt)
        except Exception as error:  # noqa: BLE001 - a process that can't be started, say, is this attempt's failure
            return None, error
        if isinstance(answer, Late):
            return None, TooLate()
        if isinstance(answer, Raised):
            return None, error_of(answer.failure, answer.kinds, answer.status, answer.after)
        return Encoded(answer.result), None

    def _job(self, attempt: Attempt) -> Job:
        info, operation = attempt.info, attempt.operation
        definition: StepDefinition = operation.call.definition
        pulse: Pulse | None = operation.pulse
        permission = attempt.permission
        return Job(
            module=definition.function.__module__,
            step=definition.name,
            input=operation.input,
            run_id=info.known_as,
            step_id=info.step_id,
            attempt=info.attempt,
            keys=info.keys,
            keys_of=info.keys_of,
            max_payload=self._max_payload,
            detail=None if pulse is None else pulse.data,
            heard_at=None if pulse is None else pulse.at,
            limits=() if permission is None else permission.names(),
            begin_by=None if permission is None else permission.until(),
            trace=current_trace.get(),
        )

    def _hear(self, attempt: Attempt, told: Any) -> None:
        info = attempt.info
        info.heard = self._heartbeats.monotonic()
        match told:
            case Begun():
                limit = attempt.operation.call.options.heartbeat_timeout
                if limit is not None:
                    self._heartbeats.watch(attempt, limit)
            case Beat():
                if told.detail is not None:
                    self._heartbeats.beat(info, _DETAIL.decode(told.detail))
            case Item():
                self._outlet(attempt).emit(told.stream, told.data)
            case Used():
                if attempt.permission is not None:
                    attempt.permission.settle_here(told.limit, told.amounts)
            case Spent():
                outlay_of(info).spend(told.used)
            case Announced():
                self._outlet(attempt).publish(told.name, told.key, told.data)
            case Logged():
                self._log(attempt, told)
            case _:
                pass

    def _log(self, attempt: Attempt, told: Logged) -> None:
        """As if the step's body had logged it here: a handler may ask which attempt it is."""
        record = logging.makeLogRecord(told.facts)
        mask_record(record)  # it was made before it had a text
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            token = current_outlet.set(lambda: self._outlet(attempt))
            try:
                target.handle(record)
            finally:
                current_outlet.reset(token)
