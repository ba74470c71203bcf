"""Sagas: what was done is undone, in reverse order, when the whole can't be.

A saga is a block of workflow code and a list of calls. If the block is left by an exception or a cancellation,
the calls are made, the newest first, while no cancellation gets at the code; then the exception goes on. They
are ordinary durable calls: after a crash, replay brings the code back to the one that was being made.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable
from types import TracebackType
from typing import Any

from perdure.api.call import Call, StepCall, WorkflowCall, current_machine, step_call
from perdure.codec.values import check_size
from perdure.core.continuing import ContinueAs
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.core.retry import DEFAULT_RETRY, Retry
from perdure.core.unwinding import Suspended
from perdure.errors import CompensationFailed, UsageError
from perdure.runtime.turns import TurnInterrupt

#: Undoing is tried until it is done, at least once an hour.
UNDO_RETRY = Retry(max_attempts=1_000_000_000, initial=1.0, backoff=2.0, max_interval=3600.0)

#: Leaving the block by these is no failure: the engine's own ways to take code apart, and the next generation.
_NO_FAILURES = (Suspended, TurnInterrupt, ContinueAs)

_Failed = list[tuple[str, BaseException]]


class Saga:
    """Undoes what was done if the block is left by an exception or a cancellation.

    Example:
        >>> async with Saga() as saga:  # doctest: +SKIP
        ...     saga.undo(cancel_hotel(trip))
        ...     await book_hotel(trip)
        ...     saga.undo(cancel_flight(trip))
        ...     await book_flight(trip)
    """

    __slots__ = ("_asked", "_over", "_undos")

    def __init__(self) -> None:
        self._undos: list[Call[Any]] = []
        self._asked: list[Any] = []  # the messages of cancellations that came while it was undoing
        self._over = False

    def undo(self, call: Call[Any]) -> None:
        """Make this call if the block is left by an exception or a cancellation; the newest is made first.

        Its arguments are taken as they are now. A step without a retry policy of its own is tried until it
        is done, with pauses that grow to an hour; only `Permanent` ends that.

        Args:
            call: of a step, or of a workflow (which becomes a child run, and isn't tried again).

        Raises:
            UsageError: it isn't such a call, or the block is over.
            NotSerializableError, PayloadTooLargeError: its arguments can't be recorded.
        """
        if not isinstance(call, StepCall | WorkflowCall):
            msg = f"saga.undo() takes the call of a step or workflow, such as cancel(order), not {call!r}"
            raise UsageError(msg)
        call.mark_used()
        if self._over:
            msg = f"saga.undo({call!r}) came when the saga's block was over, so nothing would make this call"
            raise UsageError(msg)
        machine = current_machine()
        self._undos.append(call if machine is None else _as_it_is_now(call, machine))

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        machine = current_machine()
        leaving = machine is not None and machine.inert
        if error is None or leaving or isinstance(error, _NO_FAILURES):
            self._over = True
            return
        if machine is None:
            failed = await self._make_calls(None)
        else:
            machine.compensating += 1
            try:
                failed = await self._make_calls(machine)
            finally:
                machine.compensating -= 1
        if failed:
            raise _failure(failed) from error
        if self._asked and not isinstance(error, asyncio.CancelledError):
            raise asyncio.CancelledError(*[text for text in self._asked[:1] if text is not None])

    async def _make_calls(self, machine: Machine | None) -> _Failed:
        failed: _Failed = []
        while self._undos:  # tasks that the block has left running may add to them
            call = self._undos.pop()
            name = call.name
            try:
                if machine is None:
                    await self._held(call)
                else:
                    call.hold(self._asked.append)
                    assert isinstance(machine.loop, WorkflowLoop)
                    name, work = call.adopt(machine.loop)
                    await work
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the others are undone all the same
                failed.append((name, error))
        self._over = True
        return failed

    async def _held(self, call: Awaitable[Any]) -> None:
        """Outside of runs: wait for it, however often this task is cancelled."""
        task = asyncio.ensure_future(call)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as cancelled:
                self._asked.append(cancelled.args[0] if cancelled.args else None)
        task.result()


def _as_it_is_now(call: StepCall[Any] | WorkflowCall[Any], machine: Machine) -> Call[Any]:
    """The same call with copies of its arguments, checked: later would be too late to hear that they don't fit."""
    definition = call.definition
    data, (args, kwargs) = definition.arguments.record(call.args, call.kwargs)
    check_size(data, machine.max_payload, f"input of {call!r}")
    if isinstance(call, WorkflowCall):
        copy: Call[Any] = WorkflowCall(call.definition, args, kwargs)
    else:
        retry = UNDO_RETRY if call.options.retry is DEFAULT_RETRY else call.options.retry
        options = dataclasses.replace(call.options, retry=retry)
        copy = step_call(call.definition, options, args, kwargs)
    copy.mark_used()
    return copy


def _failure(failed: _Failed) -> CompensationFailed:
    told = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed)
    message = (
        f"a saga couldn't undo all that was done; this is left, and needs somebody to look after it: {told}. "
        "The error that made it undo is this one's cause"
    )
    error = CompensationFailed(message, left=[name for name, _ in failed])
    error.errors = tuple(error for _, error in failed)
    return error
