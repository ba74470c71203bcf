"""Engines that die in the middle, within one process: their store goes silent at a chosen append.

A dead process has no more say: what it had handed to the store before is committed or not, and nothing that it does
afterwards arrives. That is what a `Mortal` store does to the engine above it. `crash` then drops that engine as a
killed process is dropped, and `bury` lets others take its runs over.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from perdure.api.engine import Engine
from perdure.codec.events import decode_event
from perdure.core import events
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Stale


class Wrapped:
    """A store that passes everything on."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Mortal(Wrapped):
    """Dies at its n-th append, before or after that is durable: from then on nothing answers.

    Args:
        dies_at: number of the append, counted from 1; 0 = it lives for ever.
        commits: that append is durable, and only its answer is lost.
        ledger: told of what is recorded.

    Attributes:
        appends: how many there have been.
        dead: set when it dies.
    """

    def __init__(self, inner: Store, dies_at: int, commits: bool, ledger: Ledger) -> None:
        super().__init__(inner)
        self.appends = 0
        self.dies_at = dies_at
        self.commits = commits
        self.ledger: Any = Books(ledger, MortalPart(self, inner.ledger))
        self.dead = asyncio.Event()

    @property
    def left(self) -> int:
        """How many appends it has left, the deadly one included. May be set: 1 is death at the next one."""
        return self.dies_at - self.appends

    @left.setter
    def left(self, appends: int) -> None:
        self.dies_at = self.appends + appends

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        if name in ("open", "close"):
            return verb
        if not callable(verb):  # a part of the store with verbs of its own
            return MortalPart(self, verb)

        async def answer(*args: Any, **options: Any) -> Any:
            result = await self.answers(verb, args, options)
            if name == "create":
                self.ledger.ids.update((made.row.run, made.row.id) for made in result)
            return result

        return answer

    async def answers(self, verb: Any, args: Any, options: Any) -> Any:
        """What a verb answers, as long as it lives."""
        if not self.dead.is_set():
            result = await verb(*args, **options)
            if not self.dead.is_set():
                return result
        return await asyncio.get_running_loop().create_future()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        silence: asyncio.Future[list[Appended | Stale]] = asyncio.get_running_loop().create_future()
        if self.dead.is_set():
            return silence
        self.appends += 1
        dies = self.appends == self.dies_at
        if dies:
            self.ledger.dies(batch)
            if not self.commits:
                self.dead.set()
                return silence
        done = self.inner.append(batch)
        done.add_done_callback(lambda settled: self._settled(settled, batch, dies))
        return silence if dies else done

    def _settled(self, settled: asyncio.Future[Any], batch: Sequence[Append], dies: bool) -> None:
        for append, result in zip(batch, settled.result(), strict=True):
            if isinstance(result, Appended):
                for child, (key, _) in zip(append.children, result.children, strict=True):
                    self.ledger.ids[key] = child.id
                self.ledger.committed(append)
        if dies:
            self.dead.set()


class MortalPart:
    """A part of a mortal store, such as `store.schedules`."""

    def __init__(self, store: Mortal, inner: Any) -> None:
        self.store = store
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)

        def answer(*args: Any, **options: Any) -> Any:
            return self.store.answers(verb, args, options)

        return answer


class Books:
    """What is called `ledger` by the test's store, and by the engine's: the one knows what the other doesn't."""

    def __init__(self, ledger: Ledger, books: MortalPart) -> None:
        self.__dict__.update(_ledger=ledger, _books=books)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger if hasattr(self._ledger, name) else self._books, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ledger, name, value)


class Ledger:
    """Which steps are recorded, and whether any body began after that.

    Attributes:
        ids: run keys to ids.
        bodies: how often which step's body began, by `run:step`.
        repeated: those that began although they were recorded.
        dying: the events of the append at which it died.
    """

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}
        self.recorded: set[str] = set()
        self.bodies: Counter[str] = Counter()
        self.repeated: list[str] = []
        self.dying: list[events.Event] = []

    def dies(self, batch: Sequence[Append]) -> None:
        """This is what was to be written when it died."""
        self.dying = [decode_event(data) for append in batch for data in append.events]

    def committed(self, append: Append) -> None:
        """This is durable."""
        for data in append.events:
            event = decode_event(data)
            if isinstance(event, events.StepCompleted | events.StepFailed):
                self.recorded.add(f"{self.ids[append.run]}:{event.step}")
        if append.parent_mail is not None:
            report = decode_event(append.parent_mail)
            if isinstance(report, events.ErrandEnded) and report.result is not None:
                parent = self.ids[append.run].partition("/")[0]  # as long as it is a child of no other run
                self.recorded.add(f"{parent}:{report.step}")

    def begins(self, run_id: str, step_id: str) -> None:
        """A body begins. Runs of one id are one run."""
        key = f"{run_id}:{step_id}"
        self.bodies[key] += 1
        if key in self.recorded:
            self.repeated.append(key)


async def crash(engine: Engine) -> None:
    """Drop an engine as a killed process drops it: nothing more is written, nothing handed back."""
    worker = engine._worker
    assert worker is not None
    assert engine._base is not None
    connections = [engine._base, *(view._connection for view in engine._views.values())]
    tasks = [
        *worker._tasks,
        *worker._background,
        *(connection._lookup for connection in connections),
        *(connection.results._check for connection in connections),
    ]
    engine._connection = engine._base = None
    worker._closing = True
    for task in tasks:
        if task is not None:
            task.cancel()
    for attempt in list(worker.steps.executing):
        attempt.cancel()
    if (pool := worker.steps.calls._pool) is not None:
        pool.shutdown(wait=False, cancel_futures=True)  # what a thread executes goes on to its end
    worker._residency.close()
    worker.timers.close()
    worker.turns.close()
    worker.journal._offer = lambda batch, pause: None  # type: ignore[method-assign]
    for driver in list(worker.drivers.values()):
        driver._let_go()
    await asyncio.sleep(0)
    await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
    for driver in list(worker.drivers.values()):  # those of children that were about to begin
        driver._let_go()
    store: Any = engine._store
    await getattr(store, "inner", store).close()


async def bury(store: Store, *, max_recoveries: int = 10, clock: Callable[[], float] = time.time) -> None:
    """Declare every worker dead, as another one does when their leases have run out.

    Args:
        store: one that isn't open yet.
    """
    await store.open()
    try:
        for worker in await store.workers():
            await store.bury(worker.id, worker.lease_until, now=clock(), max_recoveries=max_recoveries)
    finally:
        await store.close()
