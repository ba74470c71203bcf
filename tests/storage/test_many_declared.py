"""However many subscriptions and budgets there are, nobody reads others than those that may concern them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from migration_kit import Ground
from reading_kit import read, without_statistics

from helpers.postgres import Server
from perdure.core.accounts import Definition, Terms
from perdure.core.budgets import Want
from perdure.core.usage import Used
from perdure.storage.budgets import Ask, encode_definition
from perdure.storage.ledger import Book, Entry, EntryState
from perdure.storage.postgres import PostgresStore
from perdure.storage.publications import Publication, Subscription
from perdure.storage.urls import store_for
from perdure.testing.conformance.bench import NOW, Bench

MANY = 2_000
TIMES = 20


server = pytest.fixture(scope="module")(without_statistics)


def looked_at(
    server: Server,
    table: str,
    declare: Callable[[Bench], Awaitable[None]],
    act: Callable[[Bench], Awaitable[None]],
) -> int:
    """How many rows of a table are read by acting, when many have declared something."""
    database = server.new_database()

    async def within(part: Callable[[Bench], Awaitable[None]]) -> int:
        bench = Bench(lambda: PostgresStore(server.socket_url(database)))
        await bench.open()
        await part(bench)
        await bench.close()  # the server counts what is done when its connections are closed
        return read(server, database, table)

    async def main() -> int:
        before = await within(declare)
        return await within(act) - before

    return asyncio.run(main())


def test_a_publication_finds_its_own_subscriptions(server: Server) -> None:
    async def declare(bench: Bench) -> None:
        several = [Subscription(f"app.w{number}", f"event-{number}") for number in range(MANY)]
        batch = Subscription("app.batch", "paid", batch=TIMES // 2, within=60.0)
        await bench.store.publications.subscribe([*several, Subscription("app.paid", "paid"), batch], now=NOW)

    started = 0

    async def act(bench: Bench) -> None:
        nonlocal started
        for number in range(TIMES):
            publication = Publication(f"p{number}", "paid", None, b"1", NOW + number)
            await bench.store.publications.publish([publication])
            told = await bench.store.publications.distribute(now=NOW + number)
            started += told.runs

    assert looked_at(server, "subscriptions", declare, act) <= TIMES * 10
    assert started == TIMES + 2


def test_a_call_finds_its_own_budgets(server: Server) -> None:
    """When money is reserved, and when something is charged for which none was."""

    async def declare(bench: Bench) -> None:
        terms = [Terms(f"b{number}", workflow=f"app.w{number}", cost=100) for number in range(MANY)]
        own = Terms("own", workflow="app.spends", cost=1_000_000, owner="run")
        await bench.store.budgets.define([*terms, own, Terms("all", cost=1_000_000)], now=NOW)

    async def act(bench: Bench) -> None:
        row = await bench.make("r", workflow="app.spends", owner=await bench.worker())
        for number in range(TIMES):
            ask = Ask(row.run, 100 + number, Want("s", cost=5), row.epoch)
            assert await bench.store.budgets.reserve([ask], now=NOW) == [True]
            spent = Entry(number, EntryState.SPENT, "s", "app.s", 1, NOW, Used(cost=1))
            row = await bench.put(row, b"e", effects=[Book([spent])])
        (standing,) = await bench.store.budgets.standings("own")
        assert (standing.account.spent, standing.account.held) == (TIMES, 5 * TIMES)

    assert looked_at(server, "budgets", declare, act) <= TIMES * 20


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_code_of_before_has_declared_holds(kind: str, server: Server, tmp_path: Path) -> None:
    """It writes what budgets say, and not for which workflow."""
    ground = Ground(
        server.url(server.new_database()) if kind == "postgres" else f"sqlite:///{tmp_path / 'test.db'}",
        tmp_path,
    )
    now, before = (Definition(Terms("own", workflow=name, cost=9)) for name in ("app.spends", "app.other"))
    data = "X'{}'" if kind == "sqlite" else "'\\x{}'"
    declares = (
        "INSERT INTO budgets (name, data) VALUES ('own', {}) "
        "ON CONFLICT (name) DO UPDATE SET data = excluded.data"
    )

    def as_before(definition: Definition) -> None:
        ground.query(declares.format(data.format(encode_definition(definition).hex())))

    async def main() -> None:
        bench = Bench(lambda: store_for(ground.url))
        await bench.open()
        row = await bench.make("r", workflow="app.spends", owner=await bench.worker())

        async def may(id: int) -> bool:
            (answer,) = (
                await bench.store.budgets.reserve([Ask(row.run, id, Want("s", cost=5), row.epoch)], now=NOW)
                or ()
            )
            return answer is True

        as_before(now)
        assert (await may(1), await may(2)) == (True, False)
        await bench.store.budgets.define([Terms("all", cost=1_000)], now=NOW)  # looks at what was declared
        assert ground.query("SELECT workflow FROM budgets WHERE told = data ORDER BY name") == [
            ("",),
            ("app.spends",),
        ]
        assert not await may(3)
        as_before(before)
        assert await may(4)
        as_before(now)
        assert not await may(5)
        await bench.close()

    asyncio.run(main())
