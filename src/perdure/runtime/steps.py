"""Executes steps: async ones as tasks of the event loop, sync ones in a bounded pool of threads or processes.

An attempt ends in exactly one event handed to its run: StepCompleted, StepFailed, or StepAttemptFailed with
the time of the next attempt. Only when that event is durable does the run hear of it. An attempt nobody
waits for any more is interrupted and ends in no event at all; one that was *abandoned* goes on to its end,
which the history notes if the run is still there, and is never followed by another.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.codec.depth import SHALLOW
from perdure.codec.failures import failure_of
from perdure.codec.values import check_size
from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.retry import decide
from perdure.errors import OutcomeUnknown
from perdure.runtime import eager, heartbeats
from perdure.runtime.attempt import Attempt, Encoded, Log, NotBegun, Recorder, parks, recorded_input
from perdure.runtime.beginning import execute_spending
from perdure.runtime.calling import Calls
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.doorway import Doorway
from perdure.runtime.gate import Gate
from perdure.runtime.logfields import about_step
from perdure.runtime.once import execute_once
from perdure.runtime.outbox import Outbox, Outlet
from perdure.runtime.purse import Purse
from perdure.runtime.spending import PLAIN, Bookkeeper, may_spend
from perdure.runtime.stepcontext import current_attempt, current_outlet, current_store
from perdure.storage.chance import chance
from perdure.storage.protocol import Store
from perdure.storage.publications import Publish
from perdure.storage.streams import Settle, Supersede

logger = logging.getLogger("perdure.steps")


class StepExecutor(Doorway):
    """Runs the steps of one engine.

    Args:
        clock: wall-clock seconds.
        concurrency: how many attempts execute at once; more wait in line.
        threads: how many of them may be sync steps.
        processes: how many of them may be steps with process=True.
        max_payload: largest encoded result in bytes.
        outbox: takes what steps put into streams.
        store: keeps rate limits, and what is spent.

    Attributes:
        freed: called when an attempt is over, if somebody waits for that.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        concurrency: int,
        threads: int,
        processes: int,
        max_payload: int,
        outbox: Outbox,
        store: Store,
        log: Log,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._concurrency = concurrency
        self._max_payload = max_payload
        self._line: deque[Attempt] = deque()
        self._closed = False
        self._context = contextvars.copy_context()  # what steps see: the engine's, and nothing of each other
        self._context.run(current_outlet.set, lambda: self.outlet_of(current_attempt.get()))
        self._context.run(current_store.set, store)
        self.executing: set[Attempt] = set()
        self.heartbeats = heartbeats.Heartbeats(loop, clock, monotonic, self.executing)
        self._outbox = outbox
        self.calls = Calls(
            loop,
            clock,
            self.heartbeats,
            threads=threads,
            processes=processes,
            max_payload=max_payload,
            outlet=self.outlet_of,
        )
        self._providers: dict[str, str] = {}
        self.gate = Gate(store.limits, loop, clock, self)
        self.books = Bookkeeper(store.ledger, loop, clock)
        self.purse = Purse(store.budgets, self.books, loop, clock)
        self.freed: Callable[[], None] | None = None
        self._log = log
        self._begin_task = eager.beginning_on(loop)

    def start(self, run: Recorder, operation: RunStep) -> Attempt:
        """Begin the next attempt of a step as soon as there is room."""
        attempt = Attempt(run, operation, self._info(run, operation), self._clock())
        if (
            len(self.executing) + self.gate.asking >= self._concurrency
            or self._closed
            or attempt.started_at >= self.calls.sure_until
        ):
            self._line.append(attempt)
        else:
            self._begin(attempt)
        return attempt

    @property
    def occupied(self) -> int:
        """How many attempts execute, or wait for that."""
        return len(self.executing) + len(self._line) + self.gate.asking

    def outlet_of(self, attempt: Attempt) -> Outlet:
        """Where an attempt's items go. From any thread, but from one at a time."""
        if attempt.outlet is None:
            attempt.outlet = Outlet(self._outbox, attempt.run, attempt.info, self._max_payload)
        return attempt.outlet

    def sure_until(self, moment: float) -> None:
        """The runs here are nobody else's until then (wall clock); later, no attempt begins.

        A process that slept past its lease wakes up believing that the next attempts are its own to make. They
        wait in line until a heartbeat has told whether they are, or the runs are dropped.
        """
        self.calls.sure_until = moment
        self._begin_next()

    def begin_no_more(self) -> None:
        """What executes goes on; no further attempt begins."""
        self._closed = True
        self._line.clear()

    async def close(self) -> None:
        """Cancel what still executes."""
        self.begin_no_more()
        for attempt in list(self.executing):
            attempt.cancel()
        tasks = [attempt.future for attempt in self.executing if isinstance(attempt.future, asyncio.Task)]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # time for their finally blocks
        for part in (self.calls, self.gate, self.purse, self.books):
            await part.close()

    # -- one attempt --------------------------------------------------------------------------------

    def _begin(self, attempt: Attempt) -> None:
        operation = attempt.operation
        if operation.unfit is not None:
            self._loop.call_soon(self._failed, attempt, operation.unfit)
            return
        call = operation.call
        if call.options.limits or operation.delay is not None or self._providers:
            limits = self._limits_of(operation)
            if limits and not self.gate.admits(attempt, limits):
                return
        self.executing.add(attempt)
        definition: StepDefinition = call.definition
        if definition.once:
            body = execute_once(self, attempt, definition)
        elif may_spend(definition, call.options):
            body = execute_spending(self, attempt, definition)
        else:
            body = self._execute(attempt, definition)
        context = self._context.copy()
        if self.observer is not None:
            context.run(self.observer.begins, attempt)
        attempt.unbegun = self._over
        try:
            task = self._begin_task(body, context)
            if not attempt.over:
                attempt.future = task
        finally:
            if self._log.hurried:  # it is done already
                self._log.hurry()

    async def _execute(self, attempt: Attempt, definition: StepDefinition) -> None:
        if definition.is_async:
            value, error = await self.calls.call_async(attempt, definition.run)
        elif definition.process:
            value, error = await self.calls.call_process(attempt)
        else:
            value, error = await self.calls.call_sync(attempt, definition.run)
        if attempt.outlet is not None:
            await attempt.outlet.see_through()
        log = self._log
        # The only one: its outcome needn't wait for others. A turn of the loop less is 8 microseconds of 180.
        log.hurried = hurried = len(self.executing) == 1
        if attempt.future is None or not hurried:  # `_begin` isn't done yet, and hurries it
            self.settle(attempt, definition, value, error)
            return
        try:
            self.settle(attempt, definition, value, error)
        finally:
            self._context.copy().run(log.hurry)

    def settle(
        self, attempt: Attempt, definition: StepDefinition, value: Any, error: BaseException | None
    ) -> None:
        """The body is done: turn what came of it into an event."""
        if type(value) not in PLAIN or attempt.info.outlay is not None or attempt.in_thread:
            self.books.close_attempt(attempt, definition, value, error)
        try:
            if error is None:
                self._returned(attempt, definition, value)
            elif isinstance(error, NotBegun):
                self._turned_back(attempt, error)
            else:
                self._failed(attempt, error)
        except Exception:  # the engine's own error: the step stays open, and it mustn't go unheard
            about = about_step(attempt.info, attempt)
            logger.critical("step %s couldn't be recorded", attempt.operation.id, exc_info=True, extra=about)

    def renew(self, attempt: Attempt) -> None:
        """What executed so far is over, or hears no more; what follows is told of cancellation by itself."""
        self.heartbeats.over(attempt)
        permission, outlay = attempt.info.permission, attempt.info.outlay
        attempt.info = self._info(attempt.run, attempt.operation)
        attempt.info.permission, attempt.info.outlay = permission, outlay
        attempt.starved = False

    def park(
        self, attempt: Attempt, why: str, *, unknown: bool, started_at: float, error: BaseException | None
    ) -> None:
        """The step can't go on without a person's decision."""
        self._over(attempt)
        if attempt.dropped:
            return
        if attempt.abandoned:  # nobody waits for the decision
            failure = failure_of(error or OutcomeUnknown(why))
            self.fail(attempt.run, attempt.operation, attempt.info.attempt, started_at, failure)
            return
        given, digest = recorded_input(attempt.operation)
        heartbeats.keep_for_next(attempt)
        self._take_back(attempt)
        attempt.run.record(
            ev.StepParked(
                at=self._clock(),
                step=attempt.operation.id,
                attempt=attempt.info.attempt,
                started_at=started_at,
                why=why,
                unknown=unknown,
                failure=None if error is None else failure_of(error),
                input=given,
                fingerprint=digest,
            )
        )

    def _take_back(self, attempt: Attempt) -> None:
        """What the attempt has put into streams doesn't count."""
        if attempt.outlet is not None:
            attempt.run.add_effect(Supersede(attempt.operation.id))

    def _returned(self, attempt: Attempt, definition: StepDefinition, value: Any) -> None:
        try:
            if isinstance(value, Encoded):
                data, decoded = value.data, definition.result.decode(value.data)
            else:
                data, decoded = definition.result.record(value)
            if len(data) > SHALLOW or len(data) > self._max_payload:
                check_size(data, self._max_payload, f"result of step {definition.name}")
        except Exception as error:  # noqa: BLE001 - a result that can't be kept is the step's failure
            self._failed(attempt, error)
            return
        self._over(attempt)
        if not attempt.dropped:
            self.completed(attempt, data, decoded)

    def completed(self, attempt: Attempt, data: bytes, value: Any) -> None:
        """The attempt has a result: that is the step's.

        Args:
            value: the decoded result, if it is at hand.
        """
        operation = attempt.operation
        if operation.pulse is not None:
            heartbeats.forget(attempt.run, operation)
        given, digest = recorded_input(operation)
        if attempt.outlet is not None:
            attempt.run.add_effect(Settle(operation.id))
            for publication in () if attempt.run.quiet else attempt.outlet.publications or ():
                attempt.run.add_effect(Publish(msgspec.structs.replace(publication, at=self._clock())))
        at, number, began = self._clock(), attempt.info.attempt, attempt.started_at
        stub = operation.call.stubbed
        event = ev.StepCompleted(at, operation.id, number, began, data, given, digest, stubbed=stub)
        attempt.run.record(event, value)

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        self._over(attempt)
        if isinstance(error, KeyboardInterrupt) and not attempt.dropped:
            attempt.dropped = True  # the process is going down: the step is neither done nor failed
            raise error
        if attempt.dropped:
            return
        if (reporter := attempt.run.reporter) is not None:
            self._turned_away(attempt, error)  # what follows is decided there; others are held back at once
            reporter.report(attempt, error)
        else:
            self.raised(attempt, error)

    def raised(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt has raised something: decide what becomes of the step."""
        operation = attempt.operation
        options: StepOptions = operation.call.options
        last = attempt.abandoned or operation.concluding
        turned_away = self._turned_away(attempt, error)
        if turned_away is not None and not last:
            heartbeats.keep_for_next(attempt)
            self._take_back(attempt)
            attempt.run.record(turned_away)
            return
        now, number = self._clock(), attempt.info.attempt
        first_at = operation.first_at or attempt.started_at
        decision = decide(
            options.retry,
            error,
            attempt=number,
            now=now,
            chance=chance.random(),
            deadline=None if options.deadline is None else first_at + options.deadline,
        )
        if decision.exhausted and not last and parks(options, error):
            self.park(
                attempt,
                f"{decision.why}, and it ended with {type(error).__name__}: {failure_of(error).message}",
                unknown=isinstance(error, OutcomeUnknown),
                started_at=attempt.started_at,
                error=error,
            )
            return
        failure = failure_of(error)
        if decision.retry_at is not None and not last:
            heartbeats.keep_for_next(attempt)
            self._take_back(attempt)
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
        self.fail(attempt.run, operation, number, attempt.started_at, failure)

    def give_up(self, run: Recorder, operation: RunStep) -> None:
        """The step was cancelled while none of its attempts executes: it has failed with what it has so far."""
        why = "it was cancelled before its first attempt began"
        failure = operation.last_failure or failure_of(asyncio.CancelledError(why))
        self.fail(run, operation, operation.failed_attempts, self._clock(), failure)

    def fail(
        self, run: Recorder, operation: RunStep, attempt: int, started_at: float, failure: ev.Failure
    ) -> None:
        """The step has failed for good."""
        heartbeats.forget(run, operation)
        given, digest = recorded_input(operation)
        event = ev.StepFailed(self._clock(), operation.id, attempt, started_at, failure, given, digest)
        run.record(event)

    def _over(self, attempt: Attempt) -> None:
        """The attempt's place is free: let the next in line begin."""
        attempt.over = True
        # The task's context knows the attempt. As a circle they would wait for the garbage collector, which then took a
        # sixth of the time of many short steps.
        attempt.future = None
        self.executing.discard(attempt)
        if self.heartbeats.watched:
            self.heartbeats.over(attempt)
        if attempt.listed:
            attempt.run.work.attempt_over(attempt.operation)
        if self._line:
            self._begin_next()
        if self.freed is not None:
            self.freed()
