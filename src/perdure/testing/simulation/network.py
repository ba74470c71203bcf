"""Between a simulated process and the database: a store whose verbs travel, and on their way meet with faults.

Behind it is a MemoryStore on the database that all processes share. It belongs to the database's own process, which is
never killed: a verb that was sent is carried out even if whoever sent it is gone by then, as a COMMIT on its way is.
What a store may do by its protocol is all that this one does, except for "lie": then it tells that an append wasn't
written which was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from perdure.errors import StoreUnavailableError
from perdure.storage.changes import Change, OnChange
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.records import Append, Appended, Stale
from perdure.testing.simulation.clocks import EPOCH
from perdure.testing.simulation.faults import AT_HINTS, AT_VERBS, Dice, Weather
from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.world import ProcessLoop

#: These are asked so often that a process would never live, were it killed at as many of them as at others.
_BACKGROUND: Final = frozenset({"suspects", "crowd", "mail", "owned", "strand", "get", "workers", "inbox"})

_OUTAGE: Final = (
    "The database can't be reached (a simulation says so). Nothing of it has happened; try again."
)


class Line:
    """A process's way to the database.

    Args:
        database: the database's process.
        kill: kills this process; None for one that is neither killed nor stopped.

    Attributes:
        cut_until: nothing gets through before that time.
    """

    def __init__(
        self,
        loop: ProcessLoop,
        database: ProcessLoop,
        dice: Dice,
        weather: Weather,
        chance: random.Random,
        *,
        kill: Callable[[], None] | None,
        observer: Observer,
    ) -> None:
        self.loop = loop
        self.database = database
        self.dice = dice
        self.weather = weather
        self.cut_until = 0.0
        self._chance = chance
        self._kill = kill
        self._observer = observer
        self._arrives = 0.0  # the last message
        self._answers = 0.0

    def send(self, name: str, carry_out: Callable[[], Any]) -> asyncio.Future[Any]:
        """Ask the database for something."""
        future = self.loop.create_future()
        harmless = name in _BACKGROUND or self._kill is None
        kinds = AT_VERBS[:4] if harmless else AT_VERBS
        fate = self.dice.throw(kinds if name == "append" else tuple(kind for kind in kinds if kind != "lie"))
        if name == "open" and self._kill is None:
            fate = None  # a client that can't connect has nothing to be tested with
        now, draw = self.loop.world.now, self._chance.random
        arrival = now + draw() * self.weather.latency
        more = draw()
        if self.loop.world.now < self.cut_until and not self.dice.over:
            fate = "drop"
        if fate is not None:
            self._observer.tell(f"{self.loop.name}: {fate} at {name}")
        if fate == "slow":
            arrival += more * self.weather.slow
        if self.weather.ordered:
            arrival = self._arrives = max(arrival, self._arrives)
        match fate:
            case "drop":
                self.loop.call_later(more * self.weather.patience, _refuse, future)
                return future
            case "die before" if self._kill is not None:
                self._kill()
                return future
            case "freeze":
                self.loop.frozen_until = now + 4 * more * self.weather.slow
            case _:
                pass

        def arrive() -> None:
            self._observer.sender = self.loop.number
            try:
                answer, error = carry_out(), None
            except Exception as raised:  # noqa: BLE001 - it is raised where the verb was called
                answer, error = None, raised
            self._observer.carried_out(name)
            self._answer(name, fate, future, answer, error)
            if fate == "doubt" and isinstance(answer, list) and name == "append":
                again = carry_out()  # the store repeats what it knows nothing of
                assert again == answer, f"a repeated append was told {again}, and first {answer}"

        self.database.call_at(arrival, arrive)
        if fate == "die after" and self._kill is not None:
            self.database.call_at(arrival, self._kill)
        return future

    def _answer(
        self, name: str, fate: str | None, future: asyncio.Future[Any], answer: Any, error: Exception | None
    ) -> None:
        back = self.loop.world.now + self._chance.random() * self.weather.latency
        if fate == "doubt":
            back += self.weather.patience
        if self.weather.ordered:
            back = self._answers = max(back, self._answers)
        if fate == "lie" and name == "append" and error is None:
            self.loop.call_at(back, _refuse, future)
        elif error is not None:
            self.loop.call_at(back, _fail, future, error)
        else:
            self.loop.call_at(back, _settle, future, answer)

    def hint(self, tell: Callable[[], None]) -> None:
        """Something has changed in the database, and this process is to hear of it."""
        fate = self.dice.throw(AT_HINTS)
        draw = self._chance.random()
        if fate != "lose hint":
            self.loop.call_later(draw * (2.0 if fate else self.weather.latency), tell)


class DistantStore:
    """A store at the other end of a line."""

    def __init__(self, database: MemoryDatabase, line: Line) -> None:
        self._inner = MemoryStore(database)
        self._line = line
        self._told: OnChange | None = None

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)
        made: Any = _verb(self._line, name, verb) if callable(verb) else DistantPart(self._line, name, verb)
        setattr(self, name, made)  # the next time it is found at once
        return made

    async def open(self, on_change: OnChange | None = None) -> None:
        self._told = on_change
        await self._line.send("open", lambda: _at_once(self._inner.open(self._changed)))

    async def close(self) -> None:
        self._told = None
        self._line.database.call_soon(lambda: _at_once(self._inner.close()))

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        kept = list(batch)
        return self._line.send("append", lambda: self._inner.append_now(kept))

    def _changed(self, change: Change) -> None:
        if self._told is not None:
            self._line.hint(partial(self._tell, change))

    def _tell(self, change: Change) -> None:
        if self._told is not None:
            self._told(change)

    def bury_here(self, worker: int, seen_lease: float) -> None:
        """In the database's process: declare a worker dead."""
        _at_once(
            self._inner.bury(worker, seen_lease, now=self._line.loop.world.now + EPOCH, max_recoveries=10**6)
        )

    def vanish(self) -> None:
        """Its process is gone: the database hears no more of it."""
        self._told = None
        self._line.database.call_soon(lambda: _at_once(self._inner.close()))


class DistantPart:
    """A part of such a store, such as `store.schedules`."""

    def __init__(self, line: Line, name: str, inner: Any) -> None:
        self._line = line
        self._name = name
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        made = _verb(self._line, f"{self._name}.{name}", getattr(self._inner, name))
        setattr(self, name, made)
        return made


def _verb(line: Line, name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> asyncio.Future[Any]:
        return line.send(name, lambda: _at_once(verb(*args, **options)))

    return call


def _at_once(coroutine: Any) -> Any:
    """The value of a coroutine that waits for nothing, as those of MemoryStore."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a verb of the memory store isn't one transaction: it waits for something")


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _refuse(future: asyncio.Future[Any]) -> None:
    _fail(future, StoreUnavailableError(_OUTAGE))
