"""What the engine's tests share: databases that several engines open, faults, crashes, histories, steps."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import Engine, Handle, Status, events, step
from perdure.codec.events import decode_event
from perdure.errors import StoreUnavailableError, UnknownRunError
from perdure.runtime import definitions
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres.hints import Hints
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.urls import store_for

#: Longest wait for anything that has to happen; only a hanging test ever waits so long. Shorter where tests are
#: expected to hang (tests/mutants).
PATIENCE = float(os.environ.get("PERDURE_TEST_PATIENCE", "60"))


class Place:
    """One database, for any number of engines: in memory, or at a url.

    Attributes:
        ahead: by so many seconds the engines that are made from now on believe that it is later. So a test
            needn't outlive the timers of its runs.
    """

    def __init__(self, path: Path | None = None, *, url: str | None = None) -> None:
        self.path = path
        self.url = url or ("memory:" if path is None else f"sqlite:///{path}")
        self.shared = MemoryDatabase()
        self.ahead = 0.0

    def store(self) -> Store:
        """Another connection to it."""
        return MemoryStore(self.shared) if self.url == "memory:" else store_for(self.url)

    def engine(self, wrap: Callable[[Store], Any] | None = None, **options: Any) -> Engine:
        """Another engine on it, with its store wrapped."""
        engine = Engine(self.url, **options)
        engine._store = self.store() if wrap is None else wrap(self.store())
        if self.ahead:
            sets_clock_ahead(engine, self.ahead)
        return engine


def drop_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores on PostgreSQL neither send nor hear hints."""

    async def nothing(self: Hints) -> None:
        pass

    monkeypatch.setattr(Hints, "_notify", nothing)
    monkeypatch.setattr(Hints, "open", nothing)


def sets_clock_ahead(engine: Engine, seconds: float | Callable[[], float]) -> None:
    """Before it is entered: let this engine believe that it is later, by as much as this says whenever it looks."""
    ahead = seconds if callable(seconds) else lambda: seconds
    object.__setattr__(engine._settings, "clock", lambda: time.time() + ahead())


# -- stores with faults -------------------------------------------------------------------------------


class Wrapped:
    """A store that passes everything on."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Refusing(Wrapped):
    """Refuses the appends for which `refuse(number)` is true; numbers count all calls from 1."""

    def __init__(self, inner: Store, refuse: Callable[[int], bool]) -> None:
        super().__init__(inner)
        self.refuse = refuse
        self.calls = 0
        self.refused = 0

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        self.calls += 1
        if not self.refuse(self.calls):
            return self.inner.append(batch)
        self.refused += 1
        future: asyncio.Future[list[Appended | Stale]] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreUnavailableError("the disk is full (a test says so)"))
        return future


class Slow(Wrapped):
    """Acknowledges the n-th append only when it is let."""

    def __init__(self, inner: Any, number: int) -> None:
        super().__init__(inner)
        self.left = number
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        self.left -= 1
        done = self.inner.append(batch)
        if self.left != 0:
            return done
        self.reached.set()

        async def later() -> list[Appended | Stale]:
            await self.go.wait()
            return await done

        return asyncio.ensure_future(later())


class Mortal(Wrapped):
    """Dies at its n-th append, before or after that is durable: from then on nothing answers."""

    def __init__(self, inner: Store, dies_at: int, commits: bool, ledger: Ledger) -> None:
        super().__init__(inner)
        self.left = dies_at
        self.commits = commits
        self.ledger: Any = Books(ledger, MortalPart(self, inner.ledger))
        self.dead = asyncio.Event()

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
        if not self.dead.is_set():
            result = await verb(*args, **options)
            if not self.dead.is_set():
                return result
        return await asyncio.get_running_loop().create_future()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        silence: asyncio.Future[list[Appended | Stale]] = asyncio.get_running_loop().create_future()
        if self.dead.is_set():
            return silence
        self.left -= 1
        dies = self.left == 0
        if dies and not self.commits:
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
        return lambda *args, **options: self.store.answers(verb, args, options)


class Books:
    """What is called `ledger` by the test's store, and by the engine's: the one knows what the other doesn't."""

    def __init__(self, ledger: Ledger, books: MortalPart) -> None:
        self.__dict__.update(_ledger=ledger, _books=books)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger if hasattr(self._ledger, name) else self._books, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ledger, name, value)


class Ledger:
    """Which steps are recorded, and whether any body began after that."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}  #: run keys to ids
        self.recorded: set[str] = set()
        self.bodies: Counter[str] = Counter()
        self.repeated: list[str] = []

    def committed(self, append: Append) -> None:
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
    assert engine._loop is not None
    assert engine._connection is not None
    tasks = [
        *worker._tasks,
        *worker._background,
        engine._connection._lookup,
        engine._connection.results._check,
    ]
    engine._connection = None
    worker._closing = True
    for task in tasks:
        if task is not None:
            task.cancel()
    for attempt in list(worker.steps.executing):
        attempt.cancel()
    worker._residency.close()
    worker.timers.close()
    worker.turns.close()
    worker.journal._offer = lambda batch, pause: None  # type: ignore[method-assign]
    for driver in list(worker.drivers.values()):
        driver._let_go()
    await asyncio.sleep(0)
    await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
    store: Any = engine._store
    await getattr(store, "inner", store).close()


async def bury(place: Place, *, max_recoveries: int = 10, clock: Callable[[], float] = time.time) -> None:
    """Declare every worker dead, as another one does when their leases have run out."""
    store = place.store()
    await store.open()
    try:
        for worker in await store.workers():
            await store.bury(worker.id, worker.lease_until, now=clock(), max_recoveries=max_recoveries)
    finally:
        await store.close()


# -- looking ------------------------------------------------------------------------------------------


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a test's body, which mustn't hang."""

    async def bounded() -> Any:
        async with asyncio.timeout(2 * PATIENCE):  # so that `until` gets to say first what never happened
            return await main()

    return asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        seen = condition()
        if asyncio.iscoroutine(seen):
            seen = await seen
        if seen:
            return
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


async def reaches(handle: Handle[Any], *statuses: str) -> None:
    """Wait until a run has one of these statuses. It need not exist yet."""

    async def there() -> bool:
        try:
            return await handle.status() in statuses
        except UnknownRunError:
            return False

    await until(there)


async def exists(handle: Handle[Any]) -> bool:
    """Whether a run that somebody else creates is there."""
    try:
        await handle.status()
    except UnknownRunError:
        return False
    return True


async def history(handle: Handle[Any]) -> list[events.Event]:
    return [event async for event in handle.history()]


async def recorded(handle: Handle[Any]) -> list[str]:
    """The ids of the steps whose outcome is recorded, in order; none may be there twice."""
    ended = (events.StepCompleted, events.StepFailed)
    found = [event.step for event in await history(handle) if isinstance(event, ended)]
    assert len(found) == len(set(found)), f"recorded twice: {found}"
    return found


async def of_kind(handle: Handle[Any], *kinds: Any) -> list[Any]:
    return [event for event in await history(handle) if isinstance(event, kinds)]


async def works(engine: Engine) -> None:
    """The engine still does what it is there for."""
    assert await engine.run(greets("you")) == "hello you"


async def status_of(engine: Engine, id: str) -> Status:
    return await engine.get(id).status()


# -- definitions --------------------------------------------------------------------------------------


def redefine(name: str, function: Callable[..., Any]) -> perdure.Workflow[..., Any]:
    """Register other code under a workflow's name, as the next version of a program does."""
    definitions._workflows.pop(name, None)
    return perdure.workflow(name=name)(function)


@step
async def says(word: str) -> str:
    """Returns its argument."""
    return word


@perdure.workflow
async def greets(name: str) -> str:
    return f"hello {await says(name)}"
