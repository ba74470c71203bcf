"""Statements look at the rows they mean and at no others, also those whose plan was made when tables were empty."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from reading_kit import read, without_statistics

from helpers.postgres import Server
from perdure.core.attributes import attributes_of
from perdure.storage.postgres import PostgresStore
from perdure.storage.postgres.connection import _FEW_ROWS, QUERIES
from perdure.storage.records import MailKind
from perdure.testing.conformance.bench import NOW, QUEUE, Bench

ROUNDS, EACH, RUNS = 40, 5, 1_000
MANY, TIMES = 400, 8


server = pytest.fixture(without_statistics)


def test_appends_dont_look_at_the_runs_of_others(server: Server) -> None:
    database = server.new_database()

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        owner = await bench.worker()

        async def appends(name: str) -> None:
            """In batches, alone, and at their end."""
            rows = [await bench.make(f"{name}{number}", owner=owner) for number in range(EACH)]
            for _ in range(ROUNDS):
                await bench.store.append([bench.change(row, b"x") for row in rows])
                rows = [await bench.row(row.id) for row in rows]
            await bench.store.append([bench.change(row, b"x", status="completed") for row in rows])

        await appends("few")  # plans are made now
        await bench.store.create([bench.new(f"other{number}", owner=owner) for number in range(RUNS)])
        await appends("many")
        await bench.close()  # the server counts what is done when its connections are closed
        looked_at = read(server, database, "runs")
        assert looked_at < 2 * ROUNDS * EACH * 20 + 3 * RUNS, (
            "old versions of a row count, too, but no other runs"
        )

    asyncio.run(main())


def test_large_batches_and_replays_look_at_their_own_runs_only(server: Server) -> None:
    """Of many runs the planner would rather sort or hash all there are."""
    database = server.new_database()

    async def main() -> int:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        owner = await bench.worker()
        rows = [await bench.make(f"run{number}", owner=owner) for number in range(MANY)]
        await bench.close()  # the server counts what is done when its connections are closed
        server.execute(OTHERS, database)
        before = read(server, database, "runs")
        await bench.open()
        for _ in range(TIMES):
            loaded = await bench.store.load([row.run for row in rows])
            assert [len(history.events) for history in loaded] == [1] * MANY
        for first in range(0, MANY, MANY // TIMES):
            batch = rows[first : first + MANY // TIMES]
            await bench.store.append([bench.change(row, b"x", status="completed") for row in batch])
        await bench.close()
        return read(server, database, "runs") - before

    assert asyncio.run(main()) < MANY * (2 * TIMES + 4)


@pytest.mark.parametrize("hour", ["the first", "quiet", "busy"])
def test_claims_dont_look_at_all_that_is_queued(server: Server, hour: str) -> None:
    """Nor at all that sleeps, whatever statistics say: nothing, that nothing is due, or that much is."""
    database = server.new_database()

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        kinds = {"workflows": ["a", "b"], "queues": [QUEUE, "other"]}
        worker = await bench.worker(**kinds)
        await bench.make("seed")
        if hour == "quiet":
            others = OTHERS.replace("'run1'", "'seed'").replace("SELECT n,", "SELECT 900000 + n,")
            server.execute(others, database)
            server.execute("UPDATE perdure.runs SET wake_at = NULL", database)
            server.execute("VACUUM ANALYZE", database)
            for number in range(2 * TIMES):  # plans are made now, for good
                await bench.make(f"first{number}", workflow="a")
                assert len((await bench.store.claim(worker, now=NOW, limit=2, **kinds)).rows) == 1
        server.execute(QUEUED, database)
        if hour == "busy":
            server.execute("VACUUM ANALYZE", database)
        for _ in range(ROUNDS):
            due = await bench.store.claim(worker, now=NOW, limit=2, **kinds)
            assert len(due.rows) == 2
            asleep = await bench.store.claim(worker, now=NOW - 2 * RUNS, limit=2, **kinds)
            assert (asleep.rows, asleep.next_at) == ([], due.next_at)
            await bench.store.strand(now=NOW)  # of the first workflow, which nobody knows
        await bench.close()

    asyncio.run(main())
    assert read(server, database, "runs") < ROUNDS * 100 + 20 * RUNS, (
        "a claim reads what it takes, and some more"
    )


#: Ten times so many runs as others have, of two workflows.
QUEUED = f"""
INSERT INTO perdure.runs (run, id, workflow, wake_at, status, queue, fingerprint, seq, chain, epoch, created_at,
                          updated_at, semantics, on_parent_close)
SELECT n, 'q' || n, (ARRAY['a', 'b'])[1 + n % 2], {NOW} - n * 0.1, status, queue, fingerprint, seq, chain,
       epoch, created_at, updated_at, semantics, on_parent_close
FROM perdure.runs, generate_series(1, {10 * RUNS}) AS n WHERE id = 'seed'
"""

#: So many of the same owner that reading all of them seems to be cheaper than finding each one of a large batch.
OTHERS = f"""
INSERT INTO perdure.runs (run, id, workflow, owner, status, queue, fingerprint, seq, chain, epoch, created_at,
                          updated_at, semantics, on_parent_close)
SELECT n, 'o' || n, workflow, owner, status, queue, fingerprint, seq, chain, epoch, created_at, updated_at, semantics,
       on_parent_close
FROM perdure.runs, generate_series(1, {RUNS}) AS n WHERE id = 'run1'
"""


def test_removing_runs_looks_at_no_others(server: Server) -> None:
    """Plans are made while tables are empty, as they are in a new database."""
    database = server.new_database()

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        owner, retention = await bench.worker(), bench.store.retention

        async def fill(name: str, count: int) -> None:
            new = [bench.new(f"{name}{n}", attributes=attributes_of({"n": n})) for n in range(count)]
            await bench.store.create(new)
            for n in range(0, count, 10):
                await bench.store.send(f"{name}{n}", b"mail", now=NOW, kind=MailKind.MESSAGE, key="k")

        async def remove(name: str) -> None:
            for number in range(6):
                row = await bench.make(f"{name}{number}", owner=owner, attributes=attributes_of({"n": 1}))
                await bench.put(row, *[b"x"] * 5, status="completed", now=NOW - 5)
                (ended,) = await retention.ended(before=NOW, limit=10)
                assert await retention.needed([ended.run]) == {}
                assert await retention.remove([(ended.run, ended.seq)], now=NOW, rows=100) == ["gone"]
                assert await retention.orphans(limit=10) == []
                while not (await retention.sweep(rows=500, bytes=1 << 20)).done:
                    pass

        await remove("few")  # plans are made now
        await fill("other", 3 * RUNS)
        await remove("many")
        await bench.close()  # the server counts what is done when its connections are closed
        for table in ("runs", "events", "attributes", "mail_keys", "inbox", "ids"):
            looked_at = read(server, database, table)
            assert looked_at < 9 * RUNS, (table, looked_at)  # to make the others takes a part of this

    asyncio.run(main())


#: What statistics may say when plans are made. A quiet hour leaves each of these behind.
STANDINGS = {
    "a new database": "",
    "an empty table": "VACUUM ANALYZE",
    "nobody owns a run": OTHERS + "; UPDATE perdure.runs SET owner = NULL; VACUUM ANALYZE",
    "somebody owns runs": OTHERS + "; ANALYZE",
}

#: Statements that name their runs. Each must find them by their keys, and by nothing else.
BY_KEY = [
    *(
        "append_many",
        "end_many",
        "append_one",
        "lock_families",
        "finish_many",
        "set_statuses",
        "set_chains",
        "more_mail_many",
    ),
    *("rows_by_key", "claim", "driven", "lock_in_line", "end_unbegun", "removable", "release", "terminate"),
]


def ways_to_runs(plan: dict[str, Any]) -> Iterator[str]:
    """By which index, and with which condition on it, each place of a plan comes to runs."""
    if plan.get("Relation Name") == "runs" and plan["Node Type"] != "ModifyTable":
        yield f"{plan['Node Type']} {plan.get('Index Name', '')} {plan.get('Index Cond', 'without a condition')}"
    for part in plan.get("Plans", ()):
        yield from ways_to_runs(part)


async def made(server: Server, database: str, *, with_run: bool = True) -> None:
    """Make the tables, with one run that somebody drives."""
    bench = Bench(lambda: PostgresStore(server.socket_url(database)))
    await bench.open()
    if with_run:
        await bench.make("run1", owner=await bench.worker())
    await bench.close()


@pytest.mark.parametrize("standing", STANDINGS)
def test_statements_find_runs_by_their_keys_whatever_statistics_say(server: Server, standing: str) -> None:
    database = server.new_database()
    asyncio.run(made(server, database, with_run="owns" in standing))
    with psycopg.connect(server.socket_url(database), autocommit=True) as connection:
        connection.execute(_FEW_ROWS)
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for part in filter(None, STANDINGS[standing].split(";")):
            connection.execute(part.encode())
        for name in BY_KEY:
            names: list[str] = []
            text = PARAMETER.sub(lambda found: numbered(found, names), QUERIES[name])
            connection.execute(f"PREPARE {name} AS {text}".encode())
            nulls = ", ".join(["NULL"] * len(names))
            ((found,),) = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})".encode())
            ways = [
                way
                for way in ways_to_runs(found[0]["Plan"])
                if "runs_children" not in way and "ModifyTable" not in way
            ]
            assert ways, name
            for way in ways:
                assert re.match(r"(Bitmap )?Index (Only )?Scan runs_pkey \(run = |Bitmap Heap Scan", way), (
                    name,
                    way,
                )


def test_claims_go_by_the_order_of_an_index_when_nothing_was_due(server: Server) -> None:
    """Not by a bitmap, of which all has to be read and sorted: the plan is kept while much becomes due."""
    database = server.new_database()
    asyncio.run(made(server, database))
    with psycopg.connect(server.socket_url(database), autocommit=True) as connection:
        connection.execute(_FEW_ROWS)
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(OTHERS.replace(f"{RUNS})", f"{10 * RUNS})").encode())
        connection.execute("UPDATE perdure.runs SET owner = NULL")
        connection.execute("VACUUM ANALYZE")
        names: list[str] = []
        text = PARAMETER.sub(lambda found: numbered(found, names), QUERIES["due"])
        connection.execute(f"PREPARE due AS {text}".encode())
        nulls = ", ".join(["NULL"] * len(names))
        plan = "".join(line for (line,) in connection.execute(f"EXPLAIN EXECUTE due ({nulls})".encode()))
        assert "Index Scan using runs_due" in plan


PARAMETER = re.compile(r"%\((\w+)\)[sb]")


def numbered(found: re.Match[str], names: list[str]) -> str:
    if found[1] not in names:
        names.append(found[1])
    return f"${names.index(found[1]) + 1}"


@pytest.mark.parametrize("standing", STANDINGS)
def test_appends_of_the_few_cost_alike_beside_the_many(server: Server, standing: str) -> None:
    """What the plans are made for is over by the time they are used."""
    database = server.new_database()

    async def main() -> int:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        owner = await bench.worker()
        parents = [await bench.make(f"run{number}", owner=owner) for number in range(EACH)]
        for part in filter(None, STANDINGS[standing].split(";")):
            server.execute(part, database)
        server.execute(f"UPDATE perdure.runs SET owner = {owner} WHERE id LIKE 'run%'", database)

        async def work(name: str) -> None:
            """Appends in batches, and children that tell their parents of their end."""
            for number in range(TIMES):
                rows = [await bench.row(row.id) for row in parents]
                await bench.store.append([bench.change(row, b"x") for row in rows])
                parent = await bench.row("run0")
                child = bench.new(f"{name}{number}", parent=parent.run, parent_op="child:1", owner=owner)
                await bench.put(parent, b"x", children=[child])
                await bench.put(
                    await bench.row(child.id), b"x", status="completed", parent_mail=b"it has ended"
                )

        await work("first")  # plans are made now
        server.execute(
            OTHERS.replace("'o' ||", "'p' ||").replace("SELECT n,", "SELECT 900000 + n,"), database
        )
        await bench.close()  # the server counts what is done when its connections are closed
        before = read(server, database, "runs")
        await bench.open()
        await work("later")
        await bench.close()
        return read(server, database, "runs") - before

    assert asyncio.run(main()) < RUNS, "nobody else's runs were looked at"
