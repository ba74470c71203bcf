"""Stores that know tell mere ends of runs from what makes others look for mail, or for runs that are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest

from helpers.postgres import lent_database
from perdure.storage.changes import Change
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.testing.conformance.bench import NOW, Bench


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    if request.param == "memory":
        shared = MemoryDatabase()
        yield lambda: MemoryStore(shared)
    else:
        with lent_database() as url:
            yield lambda: PostgresStore(url)


async def heard_of(bench: Bench, heard: list[Change], others: int) -> list[Change]:
    """What a listener has heard of so far: until it hears of what is done now, for which it can't wait in vain."""
    before = len(heard)
    await bench.store.send("last", b"%d" % others, now=NOW)
    while Change.ANYTHING not in heard[before:]:
        await asyncio.sleep(0.01)
    return heard


def test_a_listener_is_told_what_is_mere_ends(stores: Callable[[], Store]) -> None:
    async def main() -> None:
        bench = Bench(stores)
        await bench.open()
        worker = await bench.worker()
        rows = [await bench.make(f"r{n}", owner=worker) for n in range(20)]
        await bench.make("last", owner=worker)
        heard: list[Change] = []
        await bench.another(heard.append)
        await heard_of(bench, heard, 1)
        await asyncio.sleep(0.1)
        heard.clear()
        for batch in (rows[:10], rows[10:]):
            await bench.store.append([bench.change(row, b"end", status="completed") for row in batch])
        while not heard:
            await asyncio.sleep(0.01)
        assert set(heard) == {Change.ENDS}
        await heard_of(bench, heard, 2)
        assert heard[-1] is Change.ANYTHING
        await bench.close()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(
    "payload", ["", "0123456789abcdef", "0123456789abcdef unheard-of", "0123456789abcdef ends now"]
)
def test_what_other_versions_say_means_anything(payload: str) -> None:
    async def main(url: str) -> None:
        heard: list[Change] = []
        store = PostgresStore(url)
        await store.open(heard.append)
        await asyncio.sleep(0.1)
        heard.clear()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            await other.execute("SELECT pg_notify('perdure', %s)", (payload,))
        while not heard:
            await asyncio.sleep(0.01)
        assert heard == [Change.ANYTHING]
        await store.close()

    with lent_database() as url:
        asyncio.run(asyncio.wait_for(main(url), 60))


def test_one_change_beside_another() -> None:
    assert Change.ENDS.beside(None) is Change.ENDS
    assert Change.ENDS.beside(Change.ENDS) is Change.ENDS
    assert Change.ENDS.beside(Change.ANYTHING) is Change.ANYTHING.beside(Change.ENDS) is Change.ANYTHING
