"""Transactions that meet others in PostgreSQL: done again where that helps, and waiting where it matters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest

from helpers.postgres import lent_database
from perdure.errors import StoreError
from perdure.storage.postgres import PostgresStore, attempts, verbs
from perdure.storage.protocol import Store
from perdure.storage.records import Appended
from perdure.testing.conformance.bench import LEASE, NOW, QUEUE, WORKFLOW, Bench


@pytest.fixture
def url() -> Iterator[str]:
    with lent_database() as lent:
        yield lent


def on_server(test: Callable[[Bench], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        bench = Bench(lambda: PostgresStore(url))
        await bench.open()
        try:
            await test(bench)
        finally:
            await bench.close()

    asyncio.run(main())


def raises(code: str) -> bytes:
    return f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$".encode()


@pytest.mark.parametrize(
    "code",
    ["40001", "40P01", "55P03", "57014"],
    ids=["serialisation failure", "deadlock", "lock not available", "statement timeout"],
)
def test_a_transaction_that_met_another_one_is_done_again(code: str, url: str) -> None:
    """Distributed engines refuse with the first of these what PostgreSQL itself lets wait."""

    async def test(bench: Bench) -> None:
        store: Any = bench.store
        tries = 0

        async def verb(db: Any) -> int:
            nonlocal tries
            tries += 1
            if tries <= 2:
                await db.connection.execute(raises(code))
            return tries

        assert await store._attempts.write(verb) == 3
        assert await store._attempts.write(verb, marked=False) == 4

    on_server(test, url)


def test_a_transaction_that_is_wrong_is_not_done_again(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", 60.0)

    async def test(bench: Bench) -> None:
        store: Any = bench.store
        tries = 0

        async def verb(db: Any) -> None:
            nonlocal tries
            tries += 1
            await db.connection.execute(raises("23505"))

        with pytest.raises(StoreError) as caught:
            await store._attempts.write(verb)
        assert isinstance(caught.value.__cause__, psycopg.errors.UniqueViolation)
        assert tries == 1

    on_server(test, url)


def test_a_worker_is_not_buried_amid_its_claim(url: str) -> None:
    """Else what it is just claiming would stay with a dead one: whoever buries it couldn't see that yet."""

    async def test(bench: Bench) -> None:
        worker, other = await bench.worker(), await bench.worker()
        await bench.make("r")
        elsewhere = await bench.another()
        store: Any = bench.store
        claimed, go_on = asyncio.Event(), asyncio.Event()

        async def claims(db: Any) -> Any:
            answer = await verbs.claim(db, worker, [WORKFLOW], [QUEUE], NOW, 9, None)
            claimed.set()
            await go_on.wait()
            return answer

        claim = asyncio.ensure_future(store._attempts.write(claims))
        async with asyncio.timeout(30):
            await claimed.wait()
        burial = asyncio.ensure_future(elsewhere.bury(worker, LEASE, now=NOW, max_recoveries=9))
        await asyncio.wait(
            [burial], timeout=0.3
        )  # it waits for the claim; one that doesn't is through by then
        go_on.set()
        assert [row.id for row in (await claim).rows] == ["r"]
        assert await burial == 1
        assert [row.id for row in await bench.claim(other)] == ["r"]

    on_server(test, url)


def test_an_append_whose_connection_breaks_before_it_happened_is_made_again(url: str) -> None:
    """It waits for a lock when its connection is ended; so it can't have happened, and mustn't be acknowledged."""

    async def test(bench: Bench) -> None:
        row = await bench.make("r", owner=await bench.worker())
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("SELECT 1 FROM perdure.runs WHERE run = %s FOR UPDATE", [row.run])
            append = bench.store.append([bench.change(row, b"x")])
            async with asyncio.timeout(30):
                while not (stuck := await (await other.execute(STUCK)).fetchall()):
                    await asyncio.sleep(0.005)
            ((process,),) = stuck
            await other.execute("SELECT pg_terminate_backend(%s)", [process])
            await asyncio.wait([append], timeout=0.2)
            assert not append.done()
            await other.rollback()
        assert await append == [Appended(2)]
        assert list(await bench.history(row)) == [b"first", b"x"]

    on_server(test, url)


STUCK = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%perdure.events%'
"""


def test_of_many_who_claim_at_once_each_gets_others(url: str) -> None:
    """What one looks at may be claimed by another before it can lock it, and be unlocked again by then."""

    async def test(bench: Bench) -> None:
        stores = [bench.store, await bench.another(), await bench.another()]
        workers = [(await bench.worker(), stores[number % 3]) for number in range(12)]
        claimed = Counter[str]()

        async def claims(worker: int, store: Store) -> None:
            while rows := (
                await store.claim(worker, workflows=[WORKFLOW], queues=[QUEUE], now=NOW, limit=3)
            ).rows:
                claimed.update(row.id for row in rows)

        for turn in range(1, 5):
            await bench.store.create([bench.new(f"{turn}-{number}") for number in range(400)])
            while claimed.total() < turn * 400:
                await asyncio.gather(*(claims(*worker) for worker in workers))
            assert set(claimed.values()) == {1}

    on_server(test, url)
