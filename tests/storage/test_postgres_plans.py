"""Statements look at the rows they mean and at no others, also those whose plan was made when tables were empty."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from helpers.postgres import Server
from perdure.storage.postgres import PostgresStore
from perdure.testing.conformance.bench import Bench

ROUNDS, EACH, RUNS = 40, 5, 1_000


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(autovacuum="off")  # nothing tells the planner that tables have grown
    yield server
    server.remove()


def read(server: Server, database: str, table: str) -> int:
    """Rows and index entries of a table that were looked at so far."""
    (found,) = server.execute(
        f"SELECT t.seq_tup_read, (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = t.relid) "
        f"FROM pg_stat_user_tables AS t WHERE t.relname = '{table}'",
        database,
    )
    return sum(int(str(number)) for number in found)


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
