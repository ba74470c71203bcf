"""What a store was asked to do while its disk was recorded, and whether an image of that disk agrees.

A deed is one call of a writing verb. The log of the disk says when each began, and when it was acknowledged. So of
each image it is known which deeds must be there (acknowledged), and which may be there (begun), wholly or not at all.
As one writer does them in order, those that are there are the first ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Created, NewRun, Stale
from perdure.testing.disk import Operation, RecordingDisk, marks

DATABASE = "runs.db"


@dataclass(eq=False)
class Deed:
    """What one call leaves in the database, for good or until another deed takes it.

    Attributes:
        events: by (run key, seq).
        made: ids of runs that exist from then on.
        sent, taken: mail that is put into inboxes, and taken out.
    """

    number: int
    events: dict[tuple[int, int], bytes] = field(default_factory=dict[tuple[int, int], bytes])
    made: Sequence[str] = ()
    sent: Sequence[bytes] = ()
    taken: Sequence[bytes] = ()


class Lost(AssertionError):
    """Something acknowledged isn't there."""


class Broken(AssertionError):
    """What is there contradicts itself."""


class Deeds:
    """All deeds of one recording, in the order in which they were begun."""

    def __init__(self, disk: RecordingDisk) -> None:
        self.disk = disk
        self.all: list[Deed] = []

    def begin(self, **facts: Any) -> Deed:
        deed = Deed(len(self.all), **facts)
        self.all.append(deed)
        self.disk.mark(("began", deed.number))
        return deed

    def acknowledged(self, deed: Deed) -> None:
        self.disk.mark(("done", deed.number))

    async def do(self, work: Awaitable[Any], **facts: Any) -> Any:
        deed = self.begin(**facts)
        result = await work
        self.acknowledged(deed)
        return result

    def do_soon(self, work: Callable[[], asyncio.Future[Any]], *facts: dict[str, Any]) -> asyncio.Future[Any]:
        """Do what is some deeds at once. They begin before it: a store may have done it when its call returns."""
        deeds = [self.begin(**each) for each in facts]
        future = work()

        def settled(done: asyncio.Future[Any]) -> None:
            if done.exception() is None:
                for deed in deeds:
                    self.acknowledged(deed)

        future.add_done_callback(settled)
        return future


class Witness:
    """A store that writes down what the engine asks of it."""

    def __init__(self, inner: Store, deeds: Deeds) -> None:
        self._inner = inner
        self._deeds = deeds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        done: list[Created] = await self._deeds.do(self._inner.create(runs), made=[new.id for new in runs])
        return done

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        return self._deeds.do_soon(lambda: self._inner.append(batch), *map(_deed_of, batch))


def _deed_of(append: Append) -> dict[str, Any]:
    places = enumerate(append.events, append.expected + 1)
    return {
        "events": {(append.run, seq): data for seq, data in places},
        "made": [child.id for child in append.children],
    }


@dataclass
class Moment:
    """How far everything had come when the power was cut."""

    opened: bool = False
    began: int = 0
    done: set[int] = field(default_factory=set[int])
    bodies: list[str] = field(default_factory=list[str])
    effects: Counter[str] = field(default_factory=Counter[str])
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    sent: set[str] = field(default_factory=set[str])

    def and_before(self, earlier: Moment) -> Moment:
        """With what had happened outside of the database before this recording began."""
        return Moment(
            opened=True,
            began=self.began,
            done=self.done,
            bodies=earlier.bodies + self.bodies,
            effects=earlier.effects + self.effects,
            answers={**earlier.answers, **self.answers},
            sent=earlier.sent | self.sent,
        )


def moment(log: Sequence[Operation], operations: int) -> Moment:
    """What the marks before this point of the log say."""
    now = Moment()
    for mark in marks(log[:operations]):
        match mark:
            case "opened":
                now.opened = True
            case ("began", number):
                now.began = number + 1
            case ("done", number):
                now.done.add(number)
            case ("body", key):
                now.bodies.append(key)
            case ("effect", key):
                now.effects[key] += 1
            case ("answer", run, value):
                now.answers[run] = value
            case ("sent", key):
                now.sent.add(key)
            case _:
                pass
    return now


@dataclass
class Found:
    """What an image holds."""

    runs: dict[str, int]  #: seq by id
    events: dict[tuple[int, int], bytes]
    inbox: Counter[bytes]
    ids: dict[int, str]


def look(folder: Path) -> Found:
    """Open an image as SQLite does after a crash, and read everything; raises Broken if it isn't sound."""
    connection: Any = apsw.Connection(str(folder / DATABASE))
    try:
        connection.pragma("locking_mode", "EXCLUSIVE")  # nobody else looks: no shared memory is needed
        connection.pragma("synchronous", "OFF")  # for speed: this image isn't cut again
        ask = connection.execute
        if (verdict := connection.pragma("integrity_check")) != "ok":
            raise Broken(f"damaged: {verdict}")
        if not ask("SELECT 1 FROM sqlite_schema WHERE name = 'runs'").get:
            return Found({}, {}, Counter(), {})
        rows = ask("SELECT run, id, seq, mail FROM runs").fetchall()
        events = {(run, seq): data for run, seq, data in ask("SELECT run, seq, data FROM events").fetchall()}
        inbox = ask("SELECT run, data FROM inbox").fetchall()
    except apsw.Error as error:  # whatever SQLite makes of it: a damaged schema has many names
        raise Broken(f"damaged: {error}") from error
    finally:
        connection.close()
    for run, id, seq, mail in rows:
        if [(run, number) in events for number in range(1, seq + 2)] != [True] * seq + [False]:
            raise Broken(f"the history of {id} has holes")
        if mail != sum(owner == run for owner, _ in inbox):
            raise Broken(f"{id} counts its mail wrongly")
    if sum(seq for _, _, seq, _ in rows) != len(events):
        raise Broken("there are events of runs that don't exist")
    return Found(
        {id: seq for _, id, seq, _ in rows},
        events,
        Counter(data for _, data in inbox),
        {run: id for run, id, _, _ in rows},
    )


def check(
    found: Found, deeds: Sequence[Deed], now: Moment, *, inbox: bool = True, before: Found | None = None
) -> int:
    """Whether an image keeps what was promised by then. Returns how many deeds it holds.

    Args:
        inbox: whether `deeds` tell of all mail, so that it can be compared.
        before: what was on the disk, safely, when the recording began.
    """
    if now.opened and not found.runs and now.done:
        raise Lost("the whole database is gone")
    present = 0
    absent: Deed | None = None
    known: set[tuple[int, int]] = set()
    if before is not None:
        known.update(before.events)
        if not before.events.items() <= found.events.items():
            raise Lost("events that an earlier loss of power had left aren't there")
    for deed in deeds[: now.began]:
        facts = [found.events.get(place) == data for place, data in deed.events.items()]
        facts += [id in found.runs for id in deed.made]
        if any(facts) and not all(facts):
            raise Broken(
                f"of deed {deed.number}, {facts.count(True)} of {len(facts)} parts are there: {deed}"
            )
        if facts and not all(facts):
            if deed.number in now.done:
                raise Lost(f"acknowledged, and not there: {deed}")
            absent = absent or deed
        elif facts:
            if absent:
                raise Broken(f"{deed} is there, and an earlier one isn't: {absent}")
            present += 1
            known.update(deed.events)
    strange = [place for place in found.events if place not in known and place[1] > 1]
    if strange:
        raise Broken(f"events that nobody wrote: {strange}")
    if inbox:
        _check_inbox(found, deeds, now)
    return present


def _check_inbox(found: Found, deeds: Sequence[Deed], now: Moment) -> None:
    """Mail of those deeds that are there for sure, and of none that hadn't begun."""
    sent, taken = Counter[bytes](), Counter[bytes]()
    for deed in deeds[: now.began]:
        if deed.number in now.done:
            sent.update(deed.sent)
        there = all(found.events.get(place) == data for place, data in deed.events.items())
        if deed.taken and there:
            taken.update(deed.taken)
    if lost := (sent - taken) - found.inbox:
        raise Lost(f"acknowledged mail isn't there: {lost}")
    if back := found.inbox & taken:
        raise Broken(f"mail that was taken is there again: {back}")
