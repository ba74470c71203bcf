"""What the engine's tests share: databases that several engines open, faults, crashes, histories, steps."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import Engine, Handle, Status, events, step
from perdure.errors import StoreUnavailableError, UnknownRunError
from perdure.runtime import definitions
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres.hints import Hints
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.urls import store_for
from perdure.testing import mortal
from perdure.testing.mortal import Ledger as Ledger
from perdure.testing.mortal import Mortal as Mortal
from perdure.testing.mortal import MortalPart as MortalPart
from perdure.testing.mortal import Wrapped
from perdure.testing.mortal import crash as crash

SOAK = os.environ.get("PERDURE_SOAK") == "1"

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


class Places:
    """Makes new databases of one kind.

    Attributes:
        stride: a test that lets an engine die at each append does so at every so manieth one. In memory that is each;
            what the engine does doesn't depend on its store, so that others are spared some, unless PERDURE_SOAK=1.
    """

    def __init__(self, kind: str, make: Callable[[], Place]) -> None:
        self.make = make
        self.stride = 1 if SOAK else {"memory": 1, "sqlite": 3, "postgres": 4}[kind]

    def __call__(self) -> Place:
        return self.make()


def drop_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores on PostgreSQL neither send nor hear hints."""

    async def nothing(self: Hints, hint: str = "") -> None:
        pass

    monkeypatch.setattr(Hints, "_notify", nothing)
    monkeypatch.setattr(Hints, "open", nothing)


def sets_clock_ahead(engine: Engine, seconds: float | Callable[[], float]) -> None:
    """Before it is entered: let this engine believe that it is later, by as much as this says whenever it looks."""
    ahead = seconds if callable(seconds) else lambda: seconds
    object.__setattr__(engine._settings, "clock", lambda: time.time() + ahead())


# -- stores with faults -------------------------------------------------------------------------------


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


async def bury(place: Place, *, max_recoveries: int = 10, clock: Callable[[], float] = time.time) -> None:
    """Declare every worker dead, as another one does when their leases have run out."""
    await mortal.bury(place.store(), max_recoveries=max_recoveries, clock=clock)


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
