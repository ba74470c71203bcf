"""What work costs each store, counted and not timed: a change that adds a commit, a round trip or a row fails here.

Each kind of work is done a few times and many times, and the difference is divided by the difference in number: so what
an engine does once, or now and then, doesn't count. If a number here goes down, write the new one; if it has to go up,
say in the change what it buys.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

import perdure
from helpers import costs
from helpers.costs import Costs, Counted
from helpers.faulty_disk import FaultyDisk
from helpers.postgres import lent_database, shared
from perdure import Engine, step, workflow
from perdure.runtime import fleet, listeners, residency
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.sqlite import SqliteStore
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.transaction import Transaction
from perdure.storage.sqlite.writer import Writer

FEW, MANY = 10, 60

Work = Callable[[Engine, int], Awaitable[None]]

seen: list[int] = []


@step
async def increment(number: int) -> int:
    return number + 1


@workflow
async def count(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    return number


@workflow
async def nothing() -> None:
    pass


@workflow
async def listen(messages: int) -> None:
    for _ in range(messages):
        seen.append(await perdure.receive("n", int))


@workflow
async def have_children(number: int) -> None:
    for _ in range(number):
        await nothing()


@workflow
async def nap(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


@workflow
async def tell(steps: int) -> None:
    for number in range(steps):
        perdure.emit("numbers", number)
        await increment(number)


async def steps(engine: Engine, number: int) -> None:
    assert await engine.run(count(number)) == number


async def runs(engine: Engine, number: int) -> None:
    for _ in range(number):
        await engine.run(nothing())


async def messages(engine: Engine, number: int) -> None:
    seen.clear()
    handle = await engine.start(listen(number))
    for n in range(number):
        await handle.send("n", n)
        while len(seen) <= n:
            await asyncio.sleep(0.001)
    await handle.result()


async def children(engine: Engine, number: int) -> None:
    await engine.run(have_children(number))


async def timers(engine: Engine, number: int) -> None:
    await engine.run(nap(number))


async def emits(engine: Engine, number: int) -> None:
    await engine.run(tell(number))


async def crowds(engine: Engine, number: int) -> None:
    handles = await engine.start_many([count(10) for _ in range(number)])
    await asyncio.gather(*(handle.result() for handle in handles))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines do nothing but the work, however slow the machine is."""
    monkeypatch.setattr(fleet, "LOOK_EVERY", 3600.0)
    monkeypatch.setattr(listeners, "POLL_EVERY", 3600.0)
    monkeypatch.setattr(residency, "NOTE_AFTER", 3600.0)


@contextmanager
def on_memory(_: Path, found: Costs) -> Iterator[Engine]:
    engine = Engine("memory:", lease=3600.0)
    engine._store = Counted(MemoryStore(MemoryDatabase()), found)
    yield engine


@contextmanager
def on_sqlite(path: Path, found: Costs) -> Iterator[Engine]:
    disk = FaultyDisk()
    with costs.of_sqlite(disk, found):
        engine = Engine(f"sqlite:///{path}", lease=3600.0)
        engine._store = SqliteStore(path, vfs=disk.name)
        yield engine


@contextmanager
def on_postgres(_: Path, found: Costs) -> Iterator[Engine]:
    with lent_database(alone=True) as direct:
        name = str(conninfo_to_dict(direct)["dbname"])
        with costs.of_postgres(shared(), name, found) as url:
            yield Engine(url, lease=3600.0)


def each(on: Any, work: Work, folder: Path) -> dict[str, float]:
    """What one more of it costs."""

    def cost(number: int) -> Costs:
        found: Costs = Counter()

        async def run() -> None:
            async with engine:
                await work(engine, number)

        with on(folder / f"{number}.db", found) as engine:
            asyncio.run(run())
        return found

    cost(1)  # on PostgreSQL, perhaps a database without a schema
    few, many = cost(FEW), cost(MANY)
    return {
        name: rounded
        for name in sorted(many)
        if (rounded := round((many[name] - few[name]) / (MANY - FEW), 1)) > 0
    }


#: At most so much for each. Steps and timers are exact; where tasks race (a claim may find a run before its mail
#: does), what a busy machine made of it is the limit.
MEMORY = {
    "steps": {"append": 1, "events": 1},
    "timers": {"append": 1, "events": 1},
    "emits": {"append": 2, "events": 2},
    "runs": {"create": 1, "append": 1, "events": 1, "get": 1, "last_event": 1},
    "messages": {"send": 1, "append": 1, "events": 1, "claim": 1, "mail": 1, "inquiries.waiting": 1},
    "children": {"append": 3, "events": 3, "claim": 1, "mail": 1, "inquiries.waiting": 1},
    "crowds": {"events": 11},
}
SQLITE = {
    "steps": {"syncs": 1, "commits": 1, "pages": 2, "rows": 2, "statements": 1},
    "timers": {"syncs": 1, "commits": 1, "pages": 2, "rows": 2, "statements": 1},
    "emits": {"syncs": 2, "commits": 2, "pages": 6, "rows": 6, "statements": 7},
    "runs": {"syncs": 2, "commits": 2, "pages": 13, "rows": 6, "statements": 10},
    "messages": {"syncs": 2, "commits": 2, "pages": 12, "rows": 8, "statements": 19},
    "children": {"syncs": 3, "commits": 3, "pages": 29, "rows": 15, "statements": 31},
    "crowds": {"syncs": 0, "commits": 0, "pages": 4, "rows": 25, "statements": 1},
}
POSTGRES = {
    "steps": {"round trips": 1, "statements": 1, "commits": 1, "rows": 2},
    "timers": {"round trips": 1, "statements": 1, "commits": 1, "rows": 2},
    "emits": {"round trips": 7, "statements": 7, "commits": 5, "rows": 6},
    "runs": {"round trips": 13, "statements": 13, "commits": 7, "rows": 6},
    "messages": {"round trips": 18, "statements": 17, "commits": 10, "rows": 7},
    "children": {"round trips": 33, "statements": 32, "commits": 13, "rows": 14},
    "crowds": {"round trips": 1, "statements": 1, "commits": 1, "rows": 25},
}
WORKS = [steps, timers, emits, runs, messages, children, crowds]
EXACT = ("steps", "timers")


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
@pytest.mark.parametrize(
    ("on", "most"),
    [(on_memory, MEMORY), (on_sqlite, SQLITE), (on_postgres, POSTGRES)],
    ids=["memory", "sqlite", "postgres"],
)
def test_what_one_more_costs(on: Any, most: dict[str, dict[str, int]], work: Work, tmp_path: Path) -> None:
    if on is on_postgres and "PERDURE_TEST_POSTGRES" in os.environ:
        pytest.skip("the proxy that counts goes to our own server only")
    found, bounds = each(on, work, tmp_path), most[work.__name__]
    assert {name: cost for name, cost in found.items() if cost >= bounds.get(name, 0) + 0.5} == {}
    if work.__name__ in EXACT:
        assert {name: round(cost) for name, cost in found.items()} == bounds


def test_a_second_sync_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counting itself: with each step kept by two transactions, by the writer's thread, everything doubles."""
    once = Transaction.run
    monkeypatch.setattr(Writer, "commit_here", lambda self, append: None)

    def twice(self: Transaction, db: Database, number: int) -> None:
        once(self, db, number)
        db.begin()
        db.connection.execute("UPDATE runs SET updated_at = updated_at + 0.001")
        db.commit()

    monkeypatch.setattr(Transaction, "run", twice)
    found = each(on_sqlite, steps, tmp_path)
    assert (round(found["commits"]), round(found["syncs"]), round(found["rows"])) == (2, 2, 3)


@step
def increment_in_thread(number: int) -> int:
    return number + 1


@workflow
async def count_in_threads(steps: int) -> None:
    for number in range(steps):
        await increment_in_thread(number)


@pytest.mark.parametrize("workflow", [count, count_in_threads], ids=lambda workflow: workflow.__name__)
def test_steps_leave_nothing_to_the_garbage_collector(workflow: Any) -> None:
    """Circles of references would: collecting them took a sixth of the time of many short steps."""

    async def garbage(number: int) -> int:
        async with Engine("memory:") as engine:
            gc.collect()
            gc.disable()
            try:
                await engine.run(workflow(number))
                await asyncio.sleep(0)
                return gc.collect()
            finally:
                gc.enable()

    _, few, many = (asyncio.run(garbage(number)) for number in (1, FEW, MANY))
    assert many - few < MANY - FEW
