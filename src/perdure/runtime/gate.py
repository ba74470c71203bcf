"""The gate before steps with rate limits: no attempt of theirs begins without a permission.

    begins -> ask -> permission for now, or in a moment ------> begins, within the permission's slack
                 |-> a place in line ------------------------> StepDelayed; the run may leave memory
                 '-> more than could ever be allowed --------> the step fails

Everything that comes up in one turn of the event loop is one transaction of the store: permissions, what turned out
to be used, blocks. While that is on its way the next one gathers. An attempt that waits here holds no place
among the worker's `concurrency`, except while the store is being asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from perdure.core.permits import Ask, Batch, Block, Change, Definition, Permit, Settlement
from perdure.core.rates import MICRO
from perdure.errors import ConfigurationError, StoreError
from perdure.runtime.attempt import Attempt
from perdure.runtime.limits import Limited, RateLimit, check_under, signature_of
from perdure.storage.limits import LimitStore

logger = logging.getLogger("perdure.limits")

#: How many ask at a time.
ASKS_MAX = 1000

#: Seconds before the store is asked again that couldn't be.
AGAIN_FIRST = 0.05
AGAIN_MAX = 2.0


class Door(Protocol):
    """Where attempts come from, and go to."""

    def come_in(self, attempt: Attempt) -> None:
        """It has its permission: begin it as soon as there is room."""
        ...

    def delay(self, attempt: Attempt, until: float, limit: str) -> None:
        """It has to ask again, at `until`."""
        ...

    def refuse(self, attempt: Attempt, error: Exception) -> None:
        """It can never begin."""
        ...

    def asked(self) -> None:
        """The store has answered, so there may be room for others."""
        ...


class Pass:
    """An attempt's permission, and what its body tells of its use.

    Attributes:
        limits: the step's.
        costs: what was asked for, by limit and unit.
        permit: the store's answer.
        asked: how many blocks of its limits this gate had seen when it was asked for.
    """

    __slots__ = ("_gate", "_told", "asked", "costs", "limits", "permit")

    def __init__(self, gate: Gate, limits: tuple[Limited, ...], costs: dict[str, dict[str, int]]) -> None:
        self._gate = gate
        self._told: dict[tuple[str, str], int] = {}
        self.asked = gate.blocks
        self.limits = limits
        self.costs = costs
        self.permit: Permit | None = None

    def void(self, now: float) -> bool:
        """See attempt.Pass."""
        permit = self.permit
        return permit is None or now * MICRO > permit.at + permit.slack or self._gate.blocked_since(self)

    def until(self) -> float:
        """See attempt.Pass."""
        return 0.0 if self.permit is None else (self.permit.at + self.permit.slack) / MICRO

    def names(self) -> tuple[str, ...]:
        """See attempt.Pass."""
        return tuple(self.costs)

    def settle(self, limit: RateLimit, used: Mapping[str, int]) -> None:
        """What the call has used. From any thread; what is told last counts."""
        check_under(limit, self.costs)
        check_under(limit, self.costs)
        self._gate.from_thread(self.settle_here, limit.name, used)

    def settle_here(self, name: str, used: Mapping[str, int]) -> None:
        """The same, in the event loop. See attempt.Pass."""
        if self.permit is None:
            return
        marks = self.permit.marks.get(name, {})
        for unit, amount in used.items():
            before = self._told.get((name, unit), self.costs[name].get(unit, 0))
            self._told[name, unit] = amount
            if unit in marks and amount != before:
                self._gate.change(Settlement(name, unit, before, amount, marks[unit]))

    def give_back(self) -> None:
        """Nothing of it was used."""
        for name, costs in self.costs.items():
            self.settle_here(name, dict.fromkeys(costs, 0))


class Gate:
    """The gate of one worker.

    Args:
        clock: wall-clock seconds.

    Attributes:
        asking: attempts for which the store is being asked.
        blocks: how many blocks this worker has seen coming.
    """

    def __init__(
        self, store: LimitStore, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], door: Door
    ) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._door = door
        self._asks: list[tuple[Attempt, Pass]] = []
        self._changes: list[Change] = []
        self._known: dict[str, RateLimit] = {}  # as the store has been told by this worker
        self._blocked: dict[str, int] = {}  # by limit: which block was the last one
        self._shut: dict[str, float] = {}  # until when, as far as this worker has seen
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.asking = 0
        self.blocks = 0

    # -- attempts -----------------------------------------------------------------------------------

    def admits(self, attempt: Attempt, limits: tuple[Limited, ...]) -> bool:
        """Whether an attempt may begin at this moment. If not, it is the gate's until it comes in again."""
        had = attempt.permission
        assert had is None or isinstance(had, Pass)
        if had is not None and had.permit is not None:
            now = int(self._clock() * MICRO)
            if now < had.permit.at:  # the loop's clock and the wall's differ a little
                self._come_in_later(attempt, had.permit)
                return False
            if not had.void(self._clock()):
                return True
            self.ask_again(attempt, limits)
            return False
        self._ask(attempt, limits, waited=attempt.operation.delay is not None)
        return False

    def ask_again(self, attempt: Attempt, limits: tuple[Limited, ...]) -> None:
        """Its permission has run out unused."""
        if isinstance(attempt.permission, Pass):
            attempt.permission.give_back()
        self._ask(attempt, limits, waited=True)

    def _ask(self, attempt: Attempt, limits: tuple[Limited, ...], *, waited: bool) -> None:
        attempt.permission = attempt.info.permission = None
        try:
            costs = self._costs(attempt, limits)
        except Exception as error:  # noqa: BLE001 - a function of the user's
            self._loop.call_soon(self._door.refuse, attempt, error)
            return
        permission = attempt.permission = Pass(self, limits, costs)
        attempt.waited = waited
        self.asking += 1
        self._asks.append((attempt, permission))
        self._go()

    def _costs(self, attempt: Attempt, limits: tuple[Limited, ...]) -> dict[str, dict[str, int]]:
        operation = attempt.operation
        args: tuple[Any, ...] = ()
        kwargs: Mapping[str, Any] = {}
        if any(limited.costs for limited in limits):
            args, kwargs = operation.call.arguments(operation.input)
        signature = signature_of(operation.call.definition.run)
        return {limited.limit.name: limited.of(signature, args, kwargs) for limited in limits}

    def _come_in_later(self, attempt: Attempt, permit: Permit) -> None:
        wait = permit.at / MICRO - self._clock()
        self._loop.call_later(max(wait, 0.0005), self._come_in, attempt)

    def _come_in(self, attempt: Attempt) -> None:
        if attempt.dropped or self._closed:
            if isinstance(attempt.permission, Pass):
                attempt.permission.give_back()
        else:
            self._door.come_in(attempt)

    # -- what else the store is told ------------------------------------------------------------------

    def block(self, name: str, until: float) -> None:
        """The other side takes no more before `until`, wall-clock seconds: hold everybody back, here at once."""
        self.blocks += 1
        self._blocked[name] = self.blocks
        self._shut[name] = max(until, self._shut.get(name, 0.0))
        self.change(Block(name, int(until * MICRO)))

    def shut(self, name: str) -> bool:
        """Whether this worker has seen that a limit is blocked at this moment. It may be open again meanwhile."""
        return self._shut.get(name, 0.0) > self._clock()

    def blocked_since(self, permission: Pass) -> bool:
        """Whether a limit was blocked from here after that was asked for."""
        return any(self._blocked.get(name, 0) > permission.asked for name in permission.costs)

    def change(self, change: Change) -> None:
        """Something for the store's next turn."""
        self._changes.append(change)
        self._go()

    def from_thread(self, call: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    # -- the store ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Nobody begins any more; what was used is still told, if the store takes it."""
        self._closed = True
        if (task := self._task) is not None:  # it takes itself off when it ends
            await asyncio.wait([task], timeout=AGAIN_MAX)
            task.cancel()

    def _go(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._turns())

    async def _turns(self) -> None:
        try:
            while self._asks or self._changes:
                asks, self._asks = self._asks[:ASKS_MAX], self._asks[ASKS_MAX:]
                changes, self._changes = self._changes, []
                await self._turn(asks, changes)
        finally:
            self._task = None

    async def _turn(self, asks: list[tuple[Attempt, Pass]], changes: list[Change]) -> None:
        pause = AGAIN_FIRST
        while True:
            wanted = [item for item in asks if not item[0].dropped]
            self.asking -= len(asks) - len(wanted)
            asks = wanted
            limits = _limits_of(permission for _, permission in asks)
            batch = Batch(
                self._definitions(limits),
                changes,
                [Ask(permission.costs, attempt.waited) for attempt, permission in asks],
            )
            try:
                answers = await self._store.turn(batch, now=int(self._clock() * MICRO))
                break
            except StoreError as error:
                logger.warning("rate limits couldn't be asked, will try again: %s", error)
                if self._closed:
                    self.asking -= len(asks)
                    return
                changes = [change for change in changes if not _gives_back(change)]
                await asyncio.sleep(pause)
                pause = min(pause * 2, AGAIN_MAX)
        self._learn(batch, limits, answers.replaced)
        self.asking -= len(asks)
        for (attempt, permission), permit in zip(asks, answers.permits, strict=True):
            self._answered(attempt, permission, permit)
        self._door.asked()

    def _definitions(self, limits: Mapping[str, RateLimit]) -> list[Definition]:
        return [
            Definition(name, limit.rates, fresh=_is_news(limit, self._known.get(name)))
            for name, limit in limits.items()
            if limit.rates
        ]

    def _learn(self, batch: Batch, limits: Mapping[str, RateLimit], replaced: Iterable[Definition]) -> None:
        for definition in batch.definitions:
            if definition.fresh:
                self._known[definition.name] = limits[definition.name]
        for before in replaced:
            new = self._known[before.name]
            logger.warning(
                "the rate limit %r was %r; from now on it is %r for all workers, since this one declares it so",
                before.name,
                RateLimit(before.name, **before.rates),
                new,
            )

    def _answered(self, attempt: Attempt, permission: Pass, permit: Permit) -> None:
        if permit.impossible:
            if not attempt.dropped:
                why = f"step {attempt.operation.name!r} can't begin: {permit.impossible}. Ask for less in one call"
                self._door.refuse(attempt, ConfigurationError(why))
        elif permit.firm:
            permission.permit = permit
            attempt.info.permission = permission
            if permit.at > int(self._clock() * MICRO) and not attempt.dropped:
                self._come_in_later(attempt, permit)
            else:
                self._come_in(attempt)
        elif not attempt.dropped and not self._closed:
            self._door.delay(attempt, permit.at / MICRO, permit.limit)


def _limits_of(passes: Iterable[Pass]) -> dict[str, RateLimit]:
    """By name; of several declarations in this process the newest."""
    found: dict[str, RateLimit] = {}
    for permission in passes:
        for limited in permission.limits:
            limit = limited.limit
            if limit.name not in found or found[limit.name].number < limit.number:
                found[limit.name] = limit
    return found


def _gives_back(change: Change) -> bool:
    """Whether it mustn't happen twice: after an error nobody may know whether it has happened."""
    return isinstance(change, Settlement) and change.used < change.reserved


def _is_news(limit: RateLimit, known: RateLimit | None) -> bool:
    """Whether the store has to be told of a declaration."""
    return known is None or (limit.number > known.number and limit.rates != known.rates)
