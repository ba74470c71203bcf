"""The part of the step executor that deals with what attempts wait for: rate limits, and money; or were turned away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.limiting import NAP
from perdure.core.rates import MICRO
from perdure.core.retry import open_again_at, turned_away
from perdure.errors import RateLimited
from perdure.runtime.attempt import Attempt, NoMoney, NotBegun, Recorder, recorded_input
from perdure.runtime.gate import Gate
from perdure.runtime.heartbeats import Heartbeats
from perdure.runtime.limits import Limited, RateLimit
from perdure.runtime.observing import Observer
from perdure.runtime.purse import overdrawn, refusal
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.chance import chance

if TYPE_CHECKING:
    from perdure.runtime.calling import Calls
    from perdure.runtime.definitions import StepOptions

#: So many of those in line begin within one turn of the loop. Bodies that wait for nothing are over at once, so a whole
#: line would be done in a turn, and everything else, heartbeats among it, would wait for as long.
LINE_AT_ONCE = 100


class Doorway:
    """What lies between an executor and its gate."""

    gate: Gate
    observer: Observer | None = None  #: of the engine
    executing: set[Attempt]
    _line: deque[Attempt]
    _closed: bool
    _begins_next = False  # within _begin_next
    _concurrency: int
    _clock: Callable[[], float]
    _loop: asyncio.AbstractEventLoop
    heartbeats: Heartbeats
    calls: Calls
    _providers: dict[str, str]  # by a step's name: what stands for the provider that has turned it away

    if TYPE_CHECKING:

        def _begin(self, attempt: Attempt) -> None: ...
        def _over(self, attempt: Attempt) -> None: ...
        def _failed(self, attempt: Attempt, error: BaseException) -> None: ...
        def fail(
            self, run: Recorder, operation: RunStep, attempt: int, started_at: float, failure: ev.Failure
        ) -> None: ...

    def attempt_of(self, run: Recorder, operation: RunStep, started_at: float) -> Attempt:
        """The next attempt of a step, which isn't begun by this."""
        return Attempt(run, operation, self._info(run, operation), started_at)

    def _info(self, run: Recorder, operation: RunStep) -> StepInfo:
        number = operation.failed_attempts + 1
        info = StepInfo(
            run.known_as,
            operation.id,
            operation.name,
            number,
            sink=self.heartbeats,
            keys=run.keys,
            keys_of=run.keys_of,
        )
        if operation.pulse is not None:
            operation.pulse.show(info)
        return info

    def _begin_next(self) -> None:
        if self._begins_next or self._clock() >= self.calls.sure_until:
            return
        self._begins_next = True  # one that is over at once lets no others in from within: a line may be long
        begun = 0
        try:
            while (
                self._line and len(self.executing) + self.gate.asking < self._concurrency and not self._closed
            ):
                if begun == LINE_AT_ONCE:
                    self._loop.call_soon(self._begin_next)
                    break
                begun += 1
                following = self._line.popleft()
                following.started_at = self._clock()
                if not following.dropped:
                    self._begin(following)
        finally:
            self._begins_next = False

    # -- what the gate does with attempts -------------------------------------------------------------

    def come_in(self, attempt: Attempt) -> None:
        """See gate.Door. It goes first: its permission doesn't hold for long."""
        self._line.appendleft(attempt)
        self._begin_next()

    def delay(self, attempt: Attempt, until: float, limit: str) -> None:
        """See gate.Door."""
        self._over(attempt)
        operation, options = attempt.operation, _options(attempt)
        if (
            options.deadline is not None
            and operation.first_at is not None
            and until >= operation.first_at + options.deadline
        ):
            why = f"the rate limit {limit!r} lets the next attempt begin only after the step's deadline"
            failure = operation.last_failure or failure_of(TimeoutError(why))
            self.fail(attempt.run, operation, operation.failed_attempts, self._clock(), failure)
            return
        attempt.run.record(ev.StepDelayed(self._clock(), operation.id, until, limit))

    def refuse(self, attempt: Attempt, error: Exception) -> None:
        """See gate.Door."""
        self._failed(attempt, error)

    def asked(self) -> None:
        """See gate.Door."""
        self._begin_next()

    # -- attempts that didn't begin -------------------------------------------------------------------

    def _turned_back(self, attempt: Attempt, error: NotBegun) -> None:
        if isinstance(error, NoMoney):
            self._unpaid(attempt, error)
        else:
            self._ask_again(attempt)

    def _unpaid(self, attempt: Attempt, error: NoMoney) -> None:
        """There is no money for the attempt."""
        self._over(attempt)
        if attempt.dropped:
            return
        operation = attempt.operation
        if error.fails or attempt.abandoned:
            exceeded = refusal(error, operation.name)
            if attempt.run.reporter is not None:
                attempt.run.reporter.report(attempt, exceeded)
            else:
                failed = operation.failed_attempts
                self.fail(attempt.run, operation, failed, attempt.started_at, failure_of(exceeded))
            return
        given, digest = recorded_input(operation)
        event, effect = overdrawn(error, operation, given, digest, now=self._clock())
        if effect is not None:
            attempt.run.add_effect(effect)
        attempt.run.record(event)

    def _ask_again(self, attempt: Attempt) -> None:
        """It came too late to begin: its place is free, and it is before the gate."""
        assert attempt.permission is not None
        if attempt.operation.call.definition.once and not attempt.dropped:
            self._over(attempt)  # the log says that it began: it has to say, too, that it didn't
            now = self._clock()
            limit = attempt.permission.names()[0]
            attempt.run.record(ev.StepDelayed(now, attempt.operation.id, now, limit))
            return
        self.executing.discard(attempt)
        attempt.future = None
        if not attempt.dropped and not self._closed:
            self.gate.ask_again(attempt, attempt.permission.limits)
        self._begin_next()

    # -- what the other side says ---------------------------------------------------------------------

    def _turned_away(self, attempt: Attempt, error: BaseException) -> ev.StepDelayed | None:
        """If the other side has turned the attempt away because of its rate: hold all others back, too.

        Returns:
            What to record instead of a failed attempt. None if it is a failure like any other: it is something
            else, the step has no rate limit and it isn't a known provider who says so, its policy names this error as
            one never to try again, or its deadline would be over.
        """
        now = self._clock()
        refused = turned_away(error, now)
        if refused is None:
            return None
        operation, options = attempt.operation, _options(attempt)
        limit: str | None = getattr(error, "limit", None) if isinstance(error, RateLimited) else None
        if limit is None:
            limit = options.limits[0].limit.name if options.limits else refused.provider
        if limit is None:
            return None
        until = open_again_at(refused, operation.refusals + 1, now, chance.random())
        self.gate.block(limit, until)
        if refused.provider is not None:
            self._providers[operation.name] = limit
        began = operation.first_at or attempt.started_at
        if (
            not (options.limits or refused.provider)
            or isinstance(error, options.retry.never)
            or (options.deadline is not None and until >= began + options.deadline)
        ):
            return None
        again = min(until, now + NAP / MICRO)
        return ev.StepDelayed(now, operation.id, again, limit, failure_of(error), attempt.started_at)

    def _limits_of(self, operation: RunStep) -> tuple[Limited, ...]:
        """What a step's attempt has to pass: the limits that it declares, or the provider who has turned it away.

        Without a declaration that is only known when it has happened: to this attempt, or to others of the step on this
        worker; and matters while that provider takes no more.
        """
        options: StepOptions = operation.call.options
        if options.limits:
            return options.limits
        if operation.delay is not None:
            return (Limited(RateLimit.bare(operation.delay.limit), {}),)
        if self._providers:
            name = self._providers.get(operation.name)
            if name is not None and self.gate.shut(name):
                return (Limited(RateLimit.bare(name), {}),)
        return ()


def _options(attempt: Attempt) -> StepOptions:
    options: StepOptions = attempt.operation.call.options
    return options
