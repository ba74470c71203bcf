"""Of a removed run nothing is left in any table; whoever is killed loses none; nobody who appends waits for long."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.postgres import lent_database
from perdure.core.accounts import Terms
from perdure.core.attributes import attributes_of
from perdure.core.budgets import Want
from perdure.core.where import where_text
from perdure.storage.archives import archive_at
from perdure.storage.attributes import MarkPatched
from perdure.storage.budgets import Ask
from perdure.storage.callbacks import OpenCallback
from perdure.storage.ledger import Book, EntryState
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.publications import OpenWait
from perdure.storage.records import Appended, MailKind, Successor
from perdure.storage.retention import Removal
from perdure.storage.sqlite import SqliteStore
from perdure.storage.streams import Emit
from perdure.storage.urls import store_for
from perdure.testing.conformance.bench import NOW, Bench
from perdure.testing.conformance.ledger import entry

#: What belongs to no run: facts of the database, the choices of fields by which there have been waits, workers,
#: marks of writers, whoever removes runs, and what removed runs have spent.
APART = frozenset(
    {
        "meta",
        "publication_shapes",
        "workers",
        "commits",
        "sweeper",
        "sqlite_sequence",
        "dedups",
        "usage_totals",
    }
)
#: An account of all runs goes on counting what removed ones have spent.
COLUMNS = {"budget_accounts": "name, owner, day"}


async def others(bench: Bench) -> None:
    """Runs that stay."""
    await bench.store.budgets.define([Terms("own", cost=100, owner="run"), Terms("all", cost=100)], now=NOW)
    worker = await bench.worker()
    row = await bench.make("stays", owner=worker, attributes=attributes_of({"tag": "x"}))
    await bench.store.budgets.reserve([Ask(row.run, 1, Want("s", cost=5), row.epoch)], now=NOW)
    await bench.put(row, b"x", effects=(Emit("out", b"item"),))


async def rich(bench: Bench) -> None:
    """A run with something of everything, and a child, in two generations; all of it has ended, and is removed."""
    worker = await bench.worker()
    row = await bench.make(
        "goes", owner=worker, attributes=attributes_of({"tags": ["a", "b"]}), dedup="d", donor="stays"
    )
    await bench.store.send("goes", b"keyed", now=NOW, kind=MailKind.MESSAGE, key="k")
    await bench.store.updates.request("goes", "u", b"update", call=b"call", now=NOW)
    effects = (
        Emit("out", b"three"),
        Emit("other", b"three"),
        MarkPatched("change"),
        OpenCallback(b"hash", "callback:1", NOW),
        OpenWait("event:1", "paid", where_text({"x": 1}), NOW, 7),
        Book([entry(1), entry(2, EntryState.OPEN, epoch=row.epoch)]),
    )
    children = [bench.new("goes-child", owner=worker, parent_op="child#1")]
    row = await bench.put(row, b"event", effects=effects, children=children)
    await bench.put(await bench.row("goes-child"), b"end", status="failed")
    following = Successor(bench.new("goes", owner=worker, generation=2, created_at=NOW + 2))
    await bench.put(row, b"end", status="continued", successor=following)
    row = await bench.row("goes")
    more = (Emit("out", b"four"), Book([entry(1)]))
    row = await bench.put(row, *[b"more"] * 30, effects=more)
    row = await bench.put(row, b"end", status="completed")
    retention = bench.store.retention
    assert await retention.needed([row.run]) == {}
    assert await retention.remove([(row.run, row.seq)], now=NOW, rows=100) == [Removal.GONE]
    for _ in range(100):
        orphans = await retention.orphans(limit=9)
        wanted = [(one.run.run, one.run.seq) for one in orphans]
        await retention.remove(wanted, now=NOW, rows=100)
        swept = await retention.sweep(rows=7, bytes=1 << 20)
        if swept.done and not orphans:
            break
    assert swept.done
    kept = {(total.state, total.figures[0]) for total in await bench.store.ledger.totals()}
    assert kept == {("spent", 2), ("unknown", 1)}


def contents(
    make: Callable[[], Store], steps: Sequence[Callable[[Bench], Any]], read: Callable[[], Any]
) -> Any:
    async def main() -> None:
        bench = Bench(make)
        await bench.open()
        for step in steps:
            await step(bench)
        await bench.close()

    asyncio.run(main())
    return read()


def test_nothing_is_left_in_sqlite(tmp_path: Path) -> None:
    import apsw

    def read(path: Path) -> dict[str, list[Any]]:
        db = apsw.Connection(str(path))
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {
            name: sorted(db.execute(f'SELECT {COLUMNS.get(name, "*")} FROM "{name}"').fetchall(), key=repr)
            for name in tables
            if name not in APART
        }
        db.close()
        return found

    never, gone = tmp_path / "never.db", tmp_path / "gone.db"
    expected = contents(lambda: SqliteStore(never), [others], lambda: read(never))
    found = contents(lambda: SqliteStore(gone), [others, rich], lambda: read(gone))
    assert expected["runs"]
    assert found == expected


def test_nothing_is_left_in_postgresql() -> None:
    """Keys are others there, so rows are counted."""
    import psycopg

    def read(url: str) -> dict[str, int]:
        with psycopg.connect(url) as db:
            tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'perdure'").fetchall()
            return {
                name: db.execute(f'SELECT count(*) FROM perdure."{name}"').fetchall()[0][0]  # type: ignore[arg-type]
                for (name,) in tables
                if name not in APART - {"dedups"}
            }

    with lent_database() as never, lent_database() as gone:
        expected = contents(lambda: PostgresStore(never), [others], lambda: read(never))
        found = contents(lambda: PostgresStore(gone), [others, rich], lambda: read(gone))
    assert expected["runs"] == 1
    assert found == expected


def test_an_append_waits_for_one_small_batch_at_most(tmp_path: Path) -> None:
    """While a long run is removed, appends come between any two steps: none sees two of them go by."""

    async def main() -> None:
        bench = Bench(lambda: SqliteStore(tmp_path / "test.db"))
        await bench.open()
        worker = await bench.worker()
        long = await bench.make("long", owner=worker)
        for _ in range(20):
            long = await bench.put(long, *[b"e" * 50] * 200)
        long = await bench.put(long, b"end", status="completed")
        row = await bench.make("busy", owner=worker)
        await bench.store.retention.remove([(long.run, long.seq)], now=NOW, rows=100)
        steps, most, going = 0, 0, True

        async def sweep() -> None:
            nonlocal steps, going
            while going:
                swept = await bench.store.retention.sweep(rows=100, bytes=1 << 20)
                steps += 1
                going = not swept.done
                await asyncio.sleep(0)

        sweeping = asyncio.create_task(sweep())
        appends = 0
        while going:
            seen = steps
            answer = await bench.append(row, b"x")
            most = max(most, steps - seen)
            assert isinstance(answer, Appended)
            row = await bench.row("busy")
            appends += 1
        await sweeping
        assert steps > 40
        assert appends > 10
        # the step that was on its way, and one that is told of together with the append
        assert most <= 2
        await bench.close()

    asyncio.run(main())


# -- real deaths ----------------------------------------------------------------------------------------

SWEEPING = """
import asyncio, sys, time
from perdure.core.retention import Rule
from perdure.runtime import sweeping
from perdure.storage.archives import Archive
from perdure.storage.urls import store_for

url, archive, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
sweeping.FILE_EVENTS, sweeping.AT_ONCE = 20, 3
count = 0

def here(what):
    global count
    count += 1
    print(count, what, flush=True)
    if count == kill_at:
        time.sleep(600)

write = Archive.write
def told(self, name, packages):
    here("write")
    write(self, name, packages)
    here("written")
Archive.write = told

async def main():
    store = store_for(url)
    await store.open()
    verbs = store.retention
    for name in ("note", "remove"):
        def wrapped(verb, name=name):
            async def call(*args, **more):
                here(name)
                answer = await verb(*args, **more)
                here(name + " done")
                return answer
            return call
        setattr(verbs, name, wrapped(getattr(verbs, name)))
    ahead = 1000.0 * kill_at  # whoever was killed had the turn for two minutes
    one = sweeping.Sweeper(store, f"at {kill_at}", lambda: [Rule(0.0, archive=archive)], lambda: time.time() + ahead)
    await sweeping.sweep_once(one)
    await store.close()
    print("all done", flush=True)

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
    else:
        with lent_database() as lent:
            yield lent


def test_a_kill_leaves_each_run_in_the_database_or_in_one_file(url: str, tmp_path: Path) -> None:
    everybody = {f"r-{number}" for number in range(24)}
    archive = f"file://{tmp_path}/old"

    async def fill() -> None:
        bench = Bench(lambda: store_for(url))
        await bench.open()
        await bench.store.create([bench.new(id) for id in sorted(everybody)])
        for id in sorted(everybody):
            await bench.store.terminate(id, b"end", now=NOW)
        await bench.close()

    async def left() -> set[str]:
        store = store_for(url)
        await store.open()
        found = {stamp.id for stamp in await store.moving.stamps()}
        await store.close()
        return found

    asyncio.run(fill())
    ended = False
    for kill_at in (3, 6, 9, 10_000):
        process = subprocess.Popen(
            [sys.executable, "-c", SWEEPING, url, archive, str(kill_at)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            ended = line.startswith("all done")
            if line.startswith(f"{kill_at} "):
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        there = archive_at(archive)
        archived = [package.id for name in there.files() for package in there.read(name)]
        assert len(archived) == len(set(archived))
        assert asyncio.run(left()) | set(archived) == everybody
    assert ended
    assert asyncio.run(left()) == set()
