"""The recipe for partitions in docs/scaling.md works as it stands, and the store works with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.postgres import Server
from perdure.storage.postgres import PostgresStore
from perdure.testing.conformance import run_check
from perdure.testing.conformance.appending import CHECKS
from perdure.testing.conformance.bench import Bench, Check

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def recipe() -> str:
    (found,) = re.findall(
        r"^```sql partitions\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(found)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


def partitioned(server: Server) -> str:
    """A database as the page makes it."""
    database = server.new_database()

    async def main() -> None:
        store = PostgresStore(server.socket_url(database))
        await store.open()
        await store.close()

    asyncio.run(main())
    server.execute(recipe(), database)
    return database


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_appends_keep_their_promises(check: Check, server: Server) -> None:
    url = server.socket_url(partitioned(server))
    run_check(check, lambda: PostgresStore(url))


def test_runs_of_today_are_in_the_partition_of_their_time(server: Server) -> None:
    database = partitioned(server)
    server.execute(
        "CREATE TABLE perdure.events_now PARTITION OF perdure.events FOR VALUES "
        "FROM ((extract(epoch FROM now() - interval '1 hour') * 1000)::bigint << 20) "
        "TO ((extract(epoch FROM now() + interval '1 hour') * 1000)::bigint << 20)",
        database,
    )

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        row = await bench.make("a", owner=await bench.worker())
        await bench.put(row, b"x")
        await bench.close()

    asyncio.run(main())
    assert server.execute("SELECT count(*) FROM perdure.events_now", database) == [(2,)]
