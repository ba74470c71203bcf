"""The recipe for partitions in docs/scaling.md works as it stands, and the store works with them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.postgres import Server
from perdure.errors import StoreError
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


def test_partitions_are_made_ahead_and_dropped_whole(server: Server) -> None:
    """One of which no run is left goes as a table; the rows of its runs weren't deleted one by one."""
    database = server.new_database()

    def tables() -> list[str]:
        found = server.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'perdure' AND tablename LIKE 'events_p%' ORDER BY 1",
            database,
        )
        return [name for (name,) in found]

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        store, now = bench.store, time.time()
        assert await store.disk.partition("day")
        assert await store.disk.partition("day"), "it is so already"
        with pytest.raises(StoreError):
            await store.disk.partition("month")
        made = (await store.disk.tend(now=now)).made
        assert len(made) == 4
        assert tables() == sorted(made)
        assert (await store.disk.tend(now=now)).made == []
        worker = await bench.worker()
        row, live = await bench.make("goes", owner=worker), await bench.make("live", owner=worker)
        row = await bench.put(row, *[b"x"] * 50, status="completed")
        assert server.execute(f"SELECT count(*) FROM perdure.{made[0]}", database) == [(52,)]
        later = now + 3 * 86_400
        assert made[0] not in (await store.disk.tend(now=later)).dropped
        await store.retention.remove([(row.run, row.seq)], now=now, rows=100)
        with monkeypatched_now(later):
            assert (await store.retention.sweep(rows=1000, bytes=1 << 20)).rows == 0
        assert made[0] not in (await store.disk.tend(now=later)).dropped
        live = await bench.put(live, b"end", status="completed")
        await store.retention.remove([(live.run, live.seq)], now=now, rows=100)
        assert made[0] in (await store.disk.tend(now=later)).dropped
        with monkeypatched_now(later):
            assert (await store.retention.sweep(rows=1000, bytes=1 << 20)).done
        assert server.execute("SELECT count(*) FROM perdure.remainders", database) == [(0,)]
        await bench.close()

    asyncio.run(main())


def test_rows_dont_wait_for_ever_for_their_partition(server: Server) -> None:
    database = server.new_database()

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        store, now = bench.store, time.time()
        await store.disk.partition("day")
        await store.disk.tend(now=now)
        worker = await bench.worker()
        row = await bench.make("goes", owner=worker)
        await bench.make("stays", owner=worker)
        row = await bench.put(row, *[b"x"] * 50, status="completed")
        await store.retention.remove([(row.run, row.seq)], now=now, rows=100)
        with monkeypatched_now(now + 9 * 86_400):
            assert (await store.retention.sweep(rows=1000, bytes=1 << 20)).rows > 50
        assert server.execute("SELECT count(*) FROM perdure.events", database) == [(1,)]
        await bench.close()

    asyncio.run(main())


def test_loading_a_run_looks_into_one_partition(server: Server) -> None:
    database = server.new_database()

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        await bench.store.disk.partition("month")
        await bench.store.disk.tend(now=time.time())
        row = await bench.make("a", owner=await bench.worker())
        plan = server.execute(
            f"EXPLAIN SELECT * FROM perdure.events WHERE run = {row.run} ORDER BY seq", database
        )
        told = "\n".join(line for (line,) in plan)
        assert told.count("events_p") >= 1
        assert "Append" not in told
        assert "events_others" not in told
        await bench.close()

    asyncio.run(main())


@contextlib.contextmanager
def monkeypatched_now(now: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        yield
