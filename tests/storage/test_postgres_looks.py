"""Looks that find nothing, of which a busy fleet takes hundreds a second, are one statement each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from helpers.costs import Costs, of_postgres
from helpers.postgres import shared
from perdure.storage.postgres import PostgresStore
from perdure.testing.conformance.bench import NOW, QUEUE, WORKFLOW, Bench

Look = Callable[[PostgresStore, int], Awaitable[object]]

LOOKS: dict[str, Look] = {
    "runs": lambda store, worker: store.claim(
        worker, workflows=[WORKFLOW], queues=[QUEUE], now=NOW, limit=10
    ),
    "mail": lambda store, worker: store.mail(worker),
    "schedules": lambda store, _: store.schedules.due(now=NOW, limit=10),
    "publications": lambda store, _: store.publications.pending(now=NOW),
    "inquiries": lambda store, _: store.inquiries.waiting([WORKFLOW], now=NOW),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_that_finds_nothing_is_one_statement(name: str) -> None:
    server, costs = shared(), Costs()
    with of_postgres(server, server.new_database(), costs) as url:

        async def main() -> None:
            store = PostgresStore(url)
            bench = Bench(lambda: store)
            await bench.open()
            worker = await bench.worker()
            before = costs["statements"]
            for _ in range(10):
                await LOOKS[name](store, worker)
            took = costs["statements"] - before
            assert 10 <= took < 15  # a hint of the worker may be among them
            await bench.close()

        asyncio.run(main())
