"""Asks for money before attempts begin that may spend: no attempt of theirs begins that isn't paid for.

    begins -> ask -> reserved -------------------------------------------> begins; its outcome settles (spending.py)
                |-> others are at it: what they don't use comes back ----> ask again, in a moment
                '-> there is none: pause, ask a person ------------------> StepParked; the run may leave memory
                                   fail ---------------------------------> BudgetExceeded in the workflow

Everything that comes up in one turn of the event loop is one transaction of the store. As long as there are no budgets
in a database, the store is asked once in a while whether there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.budgets import Lack, Shortage, Want
from perdure.core.commands import RunStep
from perdure.core.usage import Used
from perdure.errors import BudgetExceeded, StoreError
from perdure.runtime.attempt import Attempt, NoMoney
from perdure.runtime.spending import at_most, outlay_of
from perdure.storage.budgets import Answer, Ask, AwaitMoney, BudgetStore
from perdure.storage.chance import chance

logger = logging.getLogger("perdure.budgets")

#: How many ask at a time.
ASKS_MAX = 500

#: Seconds before the store is asked again that couldn't be, or said that others are at it.
AGAIN_FIRST = 0.05
AGAIN_MAX = 1.0

#: So many seconds an attempt waits in memory for others to settle. Then its step is parked, and asks again later.
CROWD_MAX = 10.0
CROWD_NAP = 30.0

#: So many seconds it is believed that there are no budgets.
NONE_FOR = 5.0


class Books(Protocol):
    """Where money goes back to."""

    def give_back(self, attempt: Attempt, id: int) -> None: ...


class Purse:
    """The purse of one worker.

    Args:
        clock: wall-clock seconds.
    """

    def __init__(
        self,
        store: BudgetStore,
        books: Books,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._books = books
        self._loop = loop
        self._clock = clock
        self._asks: list[tuple[Ask, asyncio.Future[Answer], Attempt]] = []
        self._task: asyncio.Task[None] | None = None
        self._none_until = 0.0  # by the loop's clock
        self._closed = False

    async def take(self, attempt: Attempt) -> NoMoney | None:
        """Reserve what the attempt may cost at most. None: it may begin."""
        if self._loop.time() < self._none_until:
            return None
        outlay = outlay_of(attempt.info)
        outlay.open = chance.getrandbits(63)
        ask = _ask(attempt, outlay.open, at_most(attempt))
        since, pause = self._loop.time(), AGAIN_FIRST
        while True:
            answer = await self._ask(ask, attempt)
            if not isinstance(answer, Shortage):
                outlay.held = answer
                return None
            if answer.lack is not Lack.CROWDED:
                outlay.open = None
                return NoMoney(answer, answer.until if answer.action == "pause" else None)
            if self._loop.time() - since > CROWD_MAX:
                outlay.open = None
                return NoMoney(answer, self._clock() + CROWD_NAP)
            await asyncio.sleep(pause * (0.5 + chance.random()))
            pause = min(pause * 2, AGAIN_MAX)

    async def _ask(self, ask: Ask, attempt: Attempt) -> Answer:
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._asks.append((ask, future, attempt))
        if self._task is None:
            self._task = self._loop.create_task(self._turns())
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.done() and future.result() is True:
                self._books.give_back(attempt, ask.id)  # the answer and the cancellation came together
            raise

    async def close(self) -> None:
        """Nobody gets anything any more; what was reserved in vain is given back."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=AGAIN_MAX)
            self._task.cancel()

    async def _turns(self) -> None:
        try:
            while self._asks:
                asks, self._asks = self._asks[:ASKS_MAX], self._asks[ASKS_MAX:]
                await self._turn(asks)
        finally:
            self._task = None

    async def _turn(self, asks: list[tuple[Ask, asyncio.Future[Answer], Attempt]]) -> None:
        pause = AGAIN_FIRST
        unsure = False
        while True:
            if not unsure:  # else it may be reserved already
                asks = [item for item in asks if not item[1].done()]
            if not asks:
                return
            try:
                answers = await self._store.reserve([ask for ask, _, _ in asks], now=self._clock())
                break
            except StoreError as error:
                logger.warning("budgets couldn't be asked, will try again: %s", error)
                if self._closed:
                    return
                unsure = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, AGAIN_MAX)
        if answers is None:
            self._none_until = self._loop.time() + NONE_FOR
            answers = [False] * len(asks)
        for (ask, future, attempt), answer in zip(asks, answers, strict=True):
            if not future.done():
                future.set_result(answer)
            elif answer is True:  # it was cancelled meanwhile
                self._books.give_back(attempt, ask.id)


def _ask(attempt: Attempt, id: int, used: Used) -> Ask:
    run, operation = attempt.run, attempt.operation
    tokens = used.input + used.output
    want = Want(
        operation.name,
        used.cost,
        tokens if tokens else None,
        allowed=operation.money == "allowed",
    )
    return Ask(
        run=run.run if run.streams_of is None else run.streams_of,
        id=id,
        want=want,
        epoch=run.epoch,
        errand="" if run.streams_of is None else run.id,
        waits=(run.run, operation.id) if operation.money else None,
    )


def refusal(error: NoMoney, step: str) -> BudgetExceeded:
    """What the workflow gets."""
    return BudgetExceeded(
        f"step {step!r} wasn't executed: {error}. Raise the budget (perdure budget raise), or do without this call"
    )


def overdrawn(
    error: NoMoney, operation: RunStep, given: bytes | None, digest: bytes | None, *, now: float
) -> tuple[ev.StepParked, AwaitMoney | None]:
    """The event of a step that waits for money, and what the store does to wake it when there is some.

    Who waits for others to settle needs nobody to wake them.
    """
    short = error.shortage
    key = short.key
    event = ev.StepParked(
        at=now,
        step=operation.id,
        attempt=operation.failed_attempts,
        started_at=now,
        why=short.why,
        failure=operation.last_failure,
        input=given,
        fingerprint=digest,
        budget=ev.Overdrawn(key.name, key.owner, key.day, error.again_at),
    )
    if short.lack is Lack.CROWDED:
        return event, None
    again = encode_event(ev.StepRerun(at=now, step=operation.id, raised=True))
    return event, AwaitMoney(operation.id, key, short.version, again)
