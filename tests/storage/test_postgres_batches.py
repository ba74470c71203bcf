"""Appends of many runs come to share their batches, whenever each of them began, and these their statements."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from helpers.costs import Costs, of_postgres
from helpers.postgres import lent_database, shared
from perdure.storage.chain import link
from perdure.storage.postgres import PostgresStore
from perdure.storage.records import Append, Appended, RunRow
from perdure.testing.conformance.bench import NOW, Bench

ROUNDS = 30


@pytest.fixture
def url() -> Iterator[str]:
    with lent_database() as lent:
        yield lent


class Cohort:
    """Runs that hand in their next events together, as soon as the ones before are durable."""

    def __init__(self, bench: Bench, rows: Sequence[RunRow]) -> None:
        self._bench = bench
        self._standing = [(row.run, row.seq, row.epoch, row.chain) for row in rows]
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = ROUNDS

    def go_on(self, before: asyncio.Future[list[Any]] | None = None) -> None:
        try:
            assert before is None or all(isinstance(answer, Appended) for answer in before.result())
        except BaseException as error:
            self.done.set_exception(error)
            return
        if not self._left:
            self.done.set_result(None)
            return
        self._left -= 1
        batch: list[Append] = []
        for place, (run, seq, epoch, chain) in enumerate(self._standing):
            chain = link(chain, b"event")
            batch.append(Append(run, seq, epoch, self._bench.next_attempt(), [b"event"], NOW, [chain]))
            self._standing[place] = (run, seq + 1, epoch, chain)
        self._bench.store.append(batch).add_done_callback(self._answered)

    def _answered(self, answers: asyncio.Future[list[Any]]) -> None:
        """What follows is handed in a turn of the loop later, as the journal does it."""
        asyncio.get_running_loop().call_soon(self.go_on, answers)


@pytest.mark.parametrize("sizes", [(20, 20), (20, 20, 20, 20), (20, 1), (1,) * 15], ids=str)
def test_runs_that_began_apart_come_to_travel_together(sizes: Sequence[int], url: str) -> None:
    async def main() -> None:
        store = PostgresStore(url)
        bench = Bench(lambda: store)
        await bench.open()
        try:
            worker = await bench.worker()
            rows = iter([await bench.make(f"r{number}", owner=worker) for number in range(sum(sizes))])
            cohorts = [Cohort(bench, [next(rows) for _ in range(size)]) for size in sizes]
            before = store._batches.commits
            for cohort in cohorts:
                cohort.go_on()
                await asyncio.sleep(0)
            await asyncio.gather(*(cohort.done for cohort in cohorts))
            assert store._batches.commits - before < ROUNDS * 1.5
        finally:
            await bench.close()

    asyncio.run(main())


def test_what_waits_when_the_store_closes_is_appended(url: str) -> None:
    async def main() -> None:
        store = PostgresStore(url)
        bench = Bench(lambda: store)
        await bench.open()
        worker = await bench.worker()
        rows = [await bench.make(f"r{number}", owner=worker) for number in range(4)]
        futures: list[asyncio.Future[list[Any]]] = []
        for row in rows:
            chain = link(row.chain, b"event")
            append = Append(row.run, row.seq, row.epoch, bench.next_attempt(), [b"event"], NOW, [chain])
            futures.append(store.append([append]))
        await bench.close()
        assert [future.result() for future in futures] == [[Appended(2)]] * 4

    asyncio.run(main())


def statements_of(runs: int, **said: Any) -> int:
    """Statements that it takes to append to so many runs."""
    server, costs = shared(), Costs()
    with of_postgres(server, server.new_database(), costs) as url:

        async def main() -> int:
            bench = Bench(lambda: PostgresStore(url))
            await bench.open()
            worker = await bench.worker()
            rows = [await bench.make(f"r{number}", owner=worker) for number in range(runs)]
            before = costs["statements"]
            await bench.store.append([bench.change(row, b"event", **said) for row in rows])
            took = costs["statements"] - before
            for row in rows:
                found = await bench.row(row.id)
                assert (found.status, found.reason) == (said["status"], said.get("reason"))
            await bench.close()
            return took

        return asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [{"status": "waiting"}, {"status": "blocked", "reason": "it doesn't fit", "block_code": "code"}],
    ids=["waiting", "blocked"],
)
def test_what_many_runs_say_of_themselves_is_one_statement(said: dict[str, Any]) -> None:
    assert statements_of(20, **said) < 20  # some, and a hint may be among them
