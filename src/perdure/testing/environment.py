"""An engine for tests: in memory, with a clock that stands still, and steps that can be mocked.

It has two engines on one database in memory: a client, which tests talk to, and a worker, which can be killed and
replaced. Both look at the same clock. While somebody waits for a run's result or an update's answer, and nothing can
happen unless time passes, the clock jumps to the next moment for which something is planned (skipping.py).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, TypeVar

from perdure.api.call import Call
from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.core.events import Event
from perdure.errors import UsageError
from perdure.runtime import definitions
from perdure.runtime import queues as defined
from perdure.runtime.worker import Worker
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.protocol import Store
from perdure.testing.clock import TestClock
from perdure.testing.mock import NOTHING, Mock, StepCalled
from perdure.testing.mocks import AnyStep, Mocks, Unmocked
from perdure.testing.mortal import bury, crash
from perdure.testing.replaying import assert_history_replays, history_of
from perdure.testing.skipping import Skipper, not_in_real_time
from perdure.testing.stillness import Stillness

R = TypeVar("R")

#: How time passes: it is skipped when nobody does anything; only by `advance`; as everywhere else.
Time: TypeAlias = Literal["skip", "manual", "real"]

#: A clock that jumps by years mustn't end a worker's lease, nor send its runs out of memory.
_FOR_EVER: Final = 1e10

#: 29 days and then one more are 30 days, whatever becomes of the last digits. Seconds.
_ROUNDING: Final = 1e-6


class Environment:
    """A place to test workflows in. An async context manager; the fixture `perdure_env` is one that is open.

    Args:
        time: "skip" lets the clock jump over waits while a result is awaited; "manual" moves it only by `advance`;
            "real" is the real clock.
        now: what the clock shows at first; by default the real time.
        unmocked: what becomes of steps without a mock: "run" executes them, "refuse" fails them.
        queues: queues that its worker serves, besides "default" and all that are defined when it opens.
        patience: real seconds to wait for what doesn't come: steps that go on, a run that waits for nobody.
        options: for the worker's Engine: `concurrency`, `budgets`, `evict_after`, `turn_limit` and others.

    Attributes:
        patience: as above; may be changed.

    Example:
        >>> async with Environment() as env:  # doctest: +SKIP
        ...     charge_mock = env.mock(charge, returns="receipt-1")
        ...     assert await env.run(subscription("anna")) == "12 months paid"
        ...     charge_mock.assert_called(times=12)
    """

    __test__ = False

    def __init__(
        self,
        *,
        time: Time = "skip",
        now: datetime | None = None,
        unmocked: Unmocked = "run",
        queues: Sequence[str] = (),
        patience: float = 10.0,
        mocks: Mocks | None = None,
        wrap: Callable[[Store], Any] | None = None,
        **options: Any,
    ) -> None:
        if time not in ("skip", "manual", "real"):
            msg = f'time={time!r}: give "skip", "manual" or "real"'
            raise UsageError(msg)
        if time == "real" and now is not None:
            msg = 'time="real" and now=: the real clock can\'t be set'
            raise UsageError(msg)
        self._time = time
        self.clock = TestClock(None if now is None else now.timestamp(), real=time == "real")
        self.patience = patience
        self.mocks = (
            Mocks(self.clock.sleep, unmocked) if mocks is None else mocks.shared_with(self.clock.sleep)
        )
        self._queues = tuple(queues)
        self._wrap = wrap
        self._options = options
        self._database = MemoryDatabase()
        self._client: Engine | None = None
        self._worker: Engine | None = None
        self._closed = False
        self._stillness = Stillness(self._worker_part, lambda: len(self.mocks.asleep))
        self._skipper: Skipper | None = None

    # -- life ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin. What needs it does it by itself."""
        if self._client is not None:
            return
        if self._closed:
            msg = "this environment was closed: make a new one"
            raise UsageError(msg)
        _asyncio_only()
        client = self._engine(worker=False)
        await client.__aenter__()
        self._client = client
        await self.new_worker(self._wrap)
        if self._time == "skip":
            self._skipper = Skipper(
                client, self.clock, self._stillness, self._worker_part, lambda: self.patience
            )

    async def close(self) -> None:
        """End: what still runs is let go of."""
        self._closed = True
        if self._skipper is not None:
            self._skipper.close()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Environment:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _engine(self, *, worker: bool, wrap: Callable[[Store], Any] | None = None) -> Engine:
        steps = {queue for names in definitions._queues_of.values() for queue in names}
        served = ("default", *sorted({*self._queues, *defined._queues, *steps} - {"default"}))
        options: dict[str, Any] = {"grace": 0.0, "queues": served, **(self._options if worker else {})}
        if self._time != "real":
            options = {"evict_after": _FOR_EVER, "lease": _FOR_EVER, **options}
        engine = Engine("memory:", worker=worker, **options)
        engine._settings = dataclasses.replace(engine._settings, clock=self.clock.now)
        store = MemoryStore(self._database)
        engine._store = store if wrap is None else wrap(store)
        return engine

    async def new_worker(self, wrap: Callable[[Store], Any] | None = None) -> None:
        """Begin to drive the runs with a new worker, whose store may be wrapped."""
        engine = self._engine(worker=True, wrap=wrap)
        await engine.__aenter__()
        assert engine._worker is not None
        self.mocks.install(engine._worker.steps)
        self._worker = engine

    async def kill_worker(self) -> None:
        """End the worker as `kill -9` would, but for what Python unwinds."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await crash(worker)
            await bury(MemoryStore(self._database), clock=self.clock.now)

    async def restart(self) -> None:
        """Kill the worker in whatever it does, and let another one take its runs over from their histories."""
        await self.open()
        await self.kill_worker()
        await self.new_worker(self._wrap)

    @property
    def engine(self) -> Engine:
        """A client on the environment's database, for all that an engine can be asked.

        Raises:
            UsageError: the environment isn't open.
        """
        if self._client is None:
            msg = "this environment isn't open yet: use it in an async test, or in `async with Environment() as env:`"
            raise UsageError(msg)
        return self._client

    def _worker_part(self) -> Worker | None:
        """The worker that drives the runs; None while there is none, or a dead one that nobody has found yet."""
        if self._worker is None:
            return None
        dead = getattr(self._worker._store, "dead", None)
        return None if dead is not None and dead.is_set() else self._worker._worker

    # -- runs ---------------------------------------------------------------------------------------

    async def start(self, call: Call[R], **options: Any) -> Handle[R]:
        """Start a run, as `Engine.start` does."""
        await self.open()
        return await self.engine.start(call, **options)

    async def run(self, call: Call[R], **options: Any) -> R:
        """Start a run and wait for its result, as `Engine.run` does. Its waits are skipped."""
        await self.open()
        return await self.engine.run(call, **options)

    def get(self, id: str) -> Handle[Any]:
        """A run by its id."""
        return self.engine.get(id)

    async def send(
        self, run: Handle[Any] | str, name: str, value: Any = None, *, key: str | None = None
    ) -> None:
        """Send a run a message, and wait until everything that follows from it now has happened."""
        handle = self.get(run) if isinstance(run, str) else run
        await handle.send(name, value, key=key)
        await self.idle()

    async def history(self, run: Handle[Any] | str) -> list[Event]:
        """A run's events so far."""
        handle = self.get(run) if isinstance(run, str) else run
        return [event async for event in handle.history()]

    async def assert_replays(self, run: Handle[Any] | str) -> None:
        """A run's code does by its history again what it did.

        Raises:
            AssertionError: it doesn't; the text says where.
        """
        id = run if isinstance(run, str) else run.id
        await assert_history_replays(await history_of(self.engine._store, id))

    # -- time ---------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """What the clock shows, in UTC."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    async def idle(self) -> None:
        """Wait until nothing can happen any more unless time passes, or somebody sends something.

        Runs then show what they wait for.

        Raises:
            TimeoutError: a step goes on for longer than `patience` real seconds.
        """
        await self.open()
        await self._stillness.wait(self.patience)
        worker = self._worker_part()
        if worker is not None:
            worker._residency.note(0.0)
            await self._stillness.wait(self.patience)

    async def advance(
        self,
        by: float | timedelta = 0.0,
        *,
        days: float = 0.0,
        hours: float = 0.0,
        minutes: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        """Let time pass. Whatever is due meanwhile happens at its moment, in order.

        Args:
            by: so many seconds, or a timedelta; or the same by `days`, `hours`, `minutes` and `seconds`.

        Raises:
            UsageError: the clock is the real one.
            TimeoutError: a step goes on for longer than `patience` real seconds.
        """
        first = by if isinstance(by, timedelta) else timedelta(seconds=by)
        total = first + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if total < timedelta(0):
            msg = f"advance({total}): time goes only forward"
            raise UsageError(msg)
        not_in_real_time(self.clock)
        await self._advance_to(self.clock.now() + total.total_seconds())

    async def advance_to(self, moment: datetime) -> None:
        """Let time pass until the clock shows this moment, see `advance`."""
        not_in_real_time(self.clock)
        await self._advance_to(moment.timestamp())

    async def _advance_to(self, target: float) -> None:
        await self.idle()
        while True:
            worker = self._worker_part()
            if worker is None:  # it has died since, and another one comes
                await self.idle()
                continue
            due = (worker.timers.next_due(), self.clock.next_due())
            moments = [at for at in due if at is not None and at <= target + _ROUNDING]
            self.clock.set(min(moments, default=target))
            worker.timers.look()
            await self.idle()
            if not moments:
                return

    # -- steps --------------------------------------------------------------------------------------

    def mock(
        self,
        step: AnyStep,
        *,
        returns: Any = NOTHING,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | Iterable[Any] | None = None,
        takes: float | timedelta = 0.0,
    ) -> Mock:
        """Let something else take a step's place. Retries, time-outs and the step's types go on as they are.

        Args:
            step: the step, or its name: the whole name, or what follows its last dot.
            returns: what it returns; None if nothing is given.
            raises: what each attempt raises; the step's retry policy holds.
            side_effect: a function, async or not, that is called with the step's arguments; or a list of what the
                attempts come to in turn: values, and exceptions to raise.
            takes: how long an attempt takes by the environment's clock; math.inf = it never ends.

        Raises:
            UsageError: it is no step, or more than one outcome is given.
        """
        return self.mocks.add(step, returns=returns, raises=raises, side_effect=side_effect, takes=takes)

    def unmock(self, step: AnyStep) -> None:
        """The real step again."""
        self.mocks.remove(step)

    def allow(self, *steps: AnyStep) -> None:
        """Execute these, where unmocked steps are refused."""
        self.mocks.allowed.update(step if isinstance(step, str) else step.name for step in steps)

    def refuse_unmocked(self) -> None:
        """From now on, a step without a mock fails."""
        self.mocks.unmocked = "refuse"

    def calls(self, step: AnyStep) -> list[StepCalled]:
        """The attempts at a step, mocked or not, in the order in which they began."""
        return self.mocks.calls_of(step)


def _asyncio_only() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = (
            "this environment needs asyncio's event loop: write the test as `async def`, and with anyio let its "
            'backend be "asyncio"'
        )
        raise UsageError(msg) from None
