"""Opening PostgreSQL databases: migrations by many at once, and errors that say what to do."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from helpers.postgres import Server
from perdure.errors import ConfigurationError, NewerSchemaError, StoreUnavailableError
from perdure.storage.postgres import PostgresStore, attempts
from perdure.storage.postgres.connection import MIGRATIONS
from perdure.storage.urls import store_for
from perdure.testing.conformance.bench import NOW, Bench


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


async def opens(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.get(["a"])
    await store.close()


OPENS = """
import asyncio, sys
from perdure.storage.urls import store_for

async def main():
    store = store_for(sys.argv[1])
    await store.open()
    print(await store.get(["a"]))
    await store.close()

asyncio.run(main())
"""


def test_five_processes_migrate_at_once(server: Server) -> None:
    url = server.url(server.new_database())
    processes = [
        subprocess.Popen([sys.executable, "-c", OPENS, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(5)
    ]
    told = [process.communicate(timeout=60) for process in processes]
    assert told == [(b"[None]\n", b"")] * 5


def test_many_stores_migrate_at_once(server: Server) -> None:
    async def main() -> None:
        url = server.url(server.new_database())
        await asyncio.gather(*(opens(url) for _ in range(10)))

    asyncio.run(main())


def test_a_migration_that_dies_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database = server.new_database()
    server.execute("CREATE SCHEMA perdure; CREATE TABLE perdure.inbox (x int)", database)  # in its way
    with pytest.raises(Exception, match="inbox"):
        asyncio.run(opens(server.url(database)))
    server.execute("DROP TABLE perdure.inbox", database)
    asyncio.run(opens(server.url(database)))


def test_a_newer_schema_is_refused(server: Server) -> None:
    database = server.new_database()
    asyncio.run(opens(server.url(database)))
    server.execute(
        f"UPDATE perdure.meta SET value = '{MIGRATIONS[-1].version + 1}' WHERE name = 'schema_version'",
        database,
    )
    with pytest.raises(NewerSchemaError, match="Upgrade Perdure"):
        asyncio.run(opens(server.url(database)))


def test_an_unknown_database_is_named(server: Server) -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"nowhere on 127\.0\.0\.1:\d+ doesn't exist.*CREATE DATABASE"
    ):
        asyncio.run(opens(server.url("nowhere")))


def test_nobody_listens() -> None:
    with pytest.raises(StoreUnavailableError, match="Check that the server runs"):
        asyncio.run(opens("postgresql://postgres@127.0.0.1:1/x"))


def test_a_wrong_password_is_refused_and_never_shown(server: Server) -> None:
    server.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    hba = server.folder / "data" / "pg_hba.conf"
    hba.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    server.execute("SELECT pg_reload_conf()")
    database = server.new_database()
    server.execute(f"GRANT CREATE ON DATABASE {database} TO guarded")
    right = server.url(database, user="guarded:right")
    wrong = server.url(database, user="guarded:hunter2")
    with pytest.raises(StoreUnavailableError, match="refuses this user") as caught:
        asyncio.run(opens(wrong))
    assert "hunter2" not in str(caught.value)
    asyncio.run(opens(right))


def test_a_user_without_the_right_to_create_is_told_which(server: Server) -> None:
    database = server.new_database()
    server.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreUnavailableError, match="GRANT CREATE ON DATABASE"):
        asyncio.run(opens(server.url(database, user="guest")))


def test_a_user_who_only_uses_needs_few_rights(server: Server) -> None:
    """As the guide says: one role migrates, another one works."""
    database = server.new_database()
    asyncio.run(opens(server.url(database)))
    server.execute(
        "CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA perdure TO app;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA perdure TO app",
        database,
    )

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(server.url(database, user="app")))
        await bench.open()
        await bench.make("a")
        assert await bench.store.send("a", b"hello", now=NOW)
        await bench.close()

    asyncio.run(main())


def test_a_read_only_server_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", 0.2)
    url = server.url(server.new_database()) + "?options=-cdefault_transaction_read_only%3Don"
    with pytest.raises(StoreUnavailableError, match="takes no writes"):
        asyncio.run(opens(url))
    asyncio.run(opens(url.partition("?")[0]))

    async def main() -> None:
        bench = Bench(lambda: PostgresStore(url.partition("?")[0]))
        await bench.open()
        database = url.partition("?")[0].rpartition("/")[2]
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perdure'"
        )
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            await bench.make("a")
        assert await bench.store.get(["a"]) == [None]
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = off")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perdure'"
        )
        await bench.make("a")
        await bench.close()

    asyncio.run(main())


def test_synchronous_commit_off_is_refused(server: Server) -> None:
    url = server.url(server.new_database()) + "?options=-csynchronous_commit%3Doff"
    with pytest.raises(StoreUnavailableError, match="synchronous_commit off"):
        asyncio.run(opens(url))


@pytest.mark.parametrize("url", ["postgresql://u:pass@[h/x", "postgresql://u:pass@h/x?no_such=1"])
def test_an_unreadable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(
        ConfigurationError, match=re.escape("postgresql://user:password@host:5432/database")
    ) as caught:
        store_for(url)
    assert "u:pass@" not in str(caught.value)
