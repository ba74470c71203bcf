"""Attempts that are in the log before their bodies run: those that mustn't happen twice, and those that may spend.

A note that an attempt has begun is else written only when it lasts (see residency.py), and after a crash nobody knows
of a shorter one. For a call that is paid for it is the other way round: the note says beforehand what it may cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.runtime.attempt import Attempt
from perdure.runtime.definitions import StepDefinition
from perdure.runtime.purse import Purse
from perdure.runtime.spending import Bookkeeper, may_spend


class Executor(Protocol):
    """What the step executor does for these attempts."""

    books: Bookkeeper
    purse: Purse
    _loop: asyncio.AbstractEventLoop
    _clock: Callable[[], float]

    async def _execute(self, attempt: Attempt, definition: StepDefinition) -> None: ...
    def settle(
        self, attempt: Attempt, definition: StepDefinition, value: Any, error: BaseException | None
    ) -> None: ...


async def begin_durably(steps: Executor, attempt: Attempt) -> BaseException | None:
    """Wait until the attempt's start is in the log, with what it may spend, for which there is money.

    Returns:
        The cancellation that ended the wait, or NoMoney.
    """
    call = attempt.operation.call
    attempt.begun = steps._loop.create_future()  # from here on nobody else notes its start
    if may_spend(call.definition, call.options):
        try:
            short = await steps.purse.take(attempt)
        except asyncio.CancelledError as error:
            return error
        if short is not None:
            return short
        steps.books.forecast(attempt)
    attempt.start = ev.StepStarted(attempt.run.now(), attempt.operation.id, attempt.info.attempt)
    attempt.run.record(attempt.start)
    try:
        await attempt.begun
    except asyncio.CancelledError as error:
        return error
    attempt.started_at = steps._clock()
    if attempt.info.outlay is not None:
        attempt.info.outlay.begun = True
    return None


async def execute_spending(steps: Executor, attempt: Attempt, definition: StepDefinition) -> None:
    """One attempt of a step that may spend."""
    error = await begin_durably(steps, attempt)
    if error is None:
        await steps._execute(attempt, definition)
    else:
        steps.settle(attempt, definition, None, error)
