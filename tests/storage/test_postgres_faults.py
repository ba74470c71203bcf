"""What happens to servers and connections under load: nothing that was acknowledged is lost or done twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest

from helpers.postgres import Server
from helpers.proxies import Proxy
from perdure.core.status import Status
from perdure.errors import StoreUnavailableError
from perdure.storage.chain import link
from perdure.storage.effects import StepDetail
from perdure.storage.postgres import PostgresStore, attempts
from perdure.storage.postgres.connection import CONNECTIONS
from perdure.storage.postgres.database import PAUSE_MAX
from perdure.storage.records import Append, Appended, Delivery, Stale
from perdure.storage.workers import Heartbeat
from perdure.testing.conformance.bench import LEASE, NOW, Bench

SOAK = os.environ.get("PERDURE_SOAK") == "1"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that may be restarted."""
    server = Server(max_connections="40")
    yield server
    server.remove()


@contextlib.asynccontextmanager
async def bench_on(url: str) -> Any:
    bench = Bench(lambda: PostgresStore(url))
    await bench.open()
    try:
        yield bench
    finally:
        await bench.close()


class Load:
    """Runs that are appended to, and messages that are sent, as fast as it goes; and what was acknowledged."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.appended: dict[str, list[bytes]] = {}
        self.sent: dict[str, list[bytes]] = {}
        self.stop = False

    async def run(self, name: str, worker: int, **fields: Any) -> None:
        """Append until told to stop; every third time with an effect, so in a transaction."""
        row = await self.bench.make(name, owner=worker)
        acknowledged = self.appended[name] = [b"first"]
        while not self.stop:
            number = len(acknowledged)
            event = f"{name}-{number}".encode()
            effects = [StepDetail("s", event, NOW)] if number % 3 == 0 else []
            answer = await self.bench.append(
                row, event, expected=number, epoch=row.epoch, effects=effects, **fields
            )
            assert answer == Appended(number + 1), answer
            acknowledged.append(event)

    async def sender(self, name: str) -> None:
        acknowledged = self.sent[name] = []
        while not self.stop:
            data = f"{name}-{len(acknowledged)}".encode()
            assert await self.bench.store.send(name, data, now=NOW) is Delivery.DELIVERED
            acknowledged.append(data)

    async def while_it_goes_on(self, fault: Callable[[], Awaitable[None]], runs: int = 8) -> None:
        """Load, and a fault in the middle; then everything must be as acknowledged."""
        worker = await self.bench.worker()
        for number in range(2):
            await self.bench.make(f"m{number}")
        tasks = [asyncio.ensure_future(self.run(f"r{number}", worker)) for number in range(runs)]
        tasks += [asyncio.ensure_future(self.sender(f"m{number}")) for number in range(2)]
        try:
            await fault()
        finally:
            self.stop = True
            await asyncio.gather(*tasks)
        for name, events in self.appended.items():
            assert await self.bench.history(await self.bench.row(name)) == events
        for name, items in self.sent.items():
            assert await self.bench.inbox(await self.bench.row(name)) == items

    @property
    def done(self) -> int:
        return sum(map(len, self.appended.values())) + sum(map(len, self.sent.values()))

    async def goes_on(self) -> None:
        """Until something more was acknowledged."""
        before = self.done
        async with asyncio.timeout(60):
            while self.done < before + 30:
                await asyncio.sleep(0.005)


def test_a_worker_that_stops_amid_a_transaction_holds_up_nobody(server: Server) -> None:
    """As by SIGSTOP: its connection lives on, and so would its locks. Going on, it begins the transaction anew."""

    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            worker = await bench.worker()
            row = await bench.make("a", owner=worker)
            stopped, goes_on = asyncio.Event(), asyncio.Event()
            tries = 0

            async def claims(db: Any) -> int:
                nonlocal tries
                tries += 1
                await db.rows("lock_workers", workers=[worker])
                await db.rows("driven", run=row.run, epoch=row.epoch)
                stopped.set()
                await goes_on.wait()
                return len(await db.rows("lock_workers", workers=[worker]))

            claiming = asyncio.ensure_future(bench.store._attempts.write(claims))
            await stopped.wait()
            async with asyncio.timeout(60):
                assert await bench.store.bury(worker, LEASE, now=NOW, max_recoveries=3) == 1
                assert await bench.store.send("a", b"x", now=NOW) is Delivery.DELIVERED
            goes_on.set()
            assert await claiming == 0
            assert tries == 2

    asyncio.run(main())


def test_a_transaction_that_computes_may_take_its_time(server: Server) -> None:
    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:

            async def pause_allowed(db: Any, patient: bool) -> Any:
                if patient:
                    await db.take_time()
                cursor = await db.connection.execute("SHOW idle_in_transaction_session_timeout")
                return (await cursor.fetchone())[0]

            attempts = bench.store._attempts
            assert await attempts.write(pause_allowed, False) == f"{PAUSE_MAX}s"
            assert await attempts.write(pause_allowed, True) == "10min"
            assert await attempts.read(pause_allowed, False) == "0"  # nothing of it stays

    asyncio.run(main())


def test_connections_that_were_cut_cost_one_attempt_together(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one each, with a longer pause before every next: a worker has a lease to keep."""

    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            worker = await bench.worker()
            together = asyncio.Barrier(CONNECTIONS)

            async def holds_one(db: Any) -> None:
                await db.rows("workers")
                await together.wait()

            await asyncio.gather(*(bench.store._attempts.read(holds_one) for _ in range(CONNECTIONS)))
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            caplog.clear()
            assert await bench.store.heartbeat(worker, Heartbeat(LEASE, NOW))
            refused = [record for record in caplog.records if "out of reach" in record.getMessage()]
            assert 1 <= len(refused) <= 3, refused

    asyncio.run(main())


def test_immediate_restarts_under_load(server: Server) -> None:
    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            load = Load(bench)

            async def restarts() -> None:
                for _ in range(20 if SOAK else 3):
                    await load.goes_on()
                    await asyncio.to_thread(server.restart, 0.1)
                await load.goes_on()

            await load.while_it_goes_on(restarts)

    asyncio.run(main())


def test_backends_are_terminated_at_every_moment(server: Server) -> None:
    async def main() -> None:
        database = server.new_database()
        async with bench_on(server.url(database)) as bench:
            load = Load(bench)
            kill = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = '{database}' AND application_name = 'perdure'"""
            killed = 0

            async def terminations() -> None:
                nonlocal killed
                while killed < (600 if SOAK else 40):
                    await asyncio.sleep(0.03)
                    killed += len(await asyncio.to_thread(server.execute, kill))
                await load.goes_on()

            await load.while_it_goes_on(terminations)

    asyncio.run(main())


def test_connections_are_cut_at_every_moment(server: Server) -> None:
    async def main() -> None:
        with Proxy(server.port) as proxy:
            async with bench_on(server.url(server.new_database(), port=proxy.port)) as bench:
                load = Load(bench)

                async def cuts() -> None:
                    while proxy.cuts < (300 if SOAK else 30):
                        await asyncio.sleep(0.03)
                        proxy.cut()
                    await load.goes_on()

                await load.while_it_goes_on(cuts)

    asyncio.run(main())


def test_a_server_that_is_away_for_long_is_told_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it has happened, and once the server is back everything goes on."""
    monkeypatch.setattr(attempts, "PATIENCE", 0.3)

    async def main() -> None:
        with Proxy(server.port) as proxy:
            async with bench_on(server.url(server.new_database(), port=proxy.port)) as bench:
                row = await bench.make("a", owner=await bench.worker())
                proxy.refuses = True
                proxy.cut()
                with pytest.raises(StoreUnavailableError, match="can't be reached"):
                    await bench.append(row, b"x")
                with pytest.raises(StoreUnavailableError):
                    await bench.store.send("a", b"hello", now=NOW)
                with pytest.raises(StoreUnavailableError):
                    await bench.store.get(["a"])
                proxy.refuses = False
                monkeypatch.setattr(attempts, "PATIENCE", 30.0)
                assert await bench.append(row, b"y") == Appended(2)
                assert await bench.inbox(row) == []

    asyncio.run(main())


def test_no_connection_is_left(server: Server) -> None:
    """A store waits for one, as long as it has patience."""

    async def main() -> None:
        url = server.url(server.new_database())
        async with bench_on(url) as bench:
            row = await bench.make("a", owner=await bench.worker())
            with Proxy(server.port):
                taken: list[psycopg.Connection[Any]] = []
                with contextlib.suppress(psycopg.OperationalError):
                    while True:
                        taken.append(await asyncio.to_thread(psycopg.connect, server.url()))
                server.port
                with pytest.raises(StoreUnavailableError, match="takes more connections"):
                    await PostgresStore(server.url("postgres", user="postgres")).open()
                sends = [
                    asyncio.ensure_future(bench.store.send("a", b"%d" % number, now=NOW))
                    for number in range(20)
                ]
                reads = [asyncio.ensure_future(bench.store.get(["a"])) for _ in range(20)]
                await asyncio.sleep(0.1)
                for connection in taken:
                    connection.close()
                assert set(await asyncio.gather(*sends)) == {Delivery.DELIVERED}
                await asyncio.gather(*reads)
                assert len(await bench.inbox(row)) == 20

    asyncio.run(main())


def test_waiting_for_a_lock_beyond_statement_timeout(server: Server) -> None:
    async def main() -> None:
        database = server.new_database()
        async with bench_on(server.url(database) + "?options=-cstatement_timeout%3D100") as bench:
            row = await bench.make("a", owner=await bench.worker())
            async with await psycopg.AsyncConnection.connect(server.url(database)) as other:
                await other.execute("SELECT FROM perdure.runs WHERE id = 'a' FOR UPDATE")
                plain = asyncio.ensure_future(bench.append(row, b"x"))
                sent = asyncio.ensure_future(bench.store.send("a", b"hello", now=NOW))
                await asyncio.sleep(0.4)
                assert not plain.done()
                assert not sent.done()
                await other.rollback()
            assert await plain == Appended(2)
            assert await sent is Delivery.DELIVERED
            assert await bench.inbox(row) == [b"hello"]

    asyncio.run(main())


def test_two_stores_append_to_one_run(server: Server) -> None:
    """Of two drivers that believe in the same seq one passes; of two epochs only the newer one."""

    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            other = await bench.another()
            row = await bench.make("a", owner=await bench.worker())
            expected = [b"first"]
            for number in range(50):
                rivals = [bench.change(row, b"%d-%d" % (number, rival)) for rival in (0, 1)]
                (one,), (two,) = await asyncio.gather(
                    bench.store.append([rivals[0]]), other.append([rivals[1]])
                )
                assert {type(one), type(two)} == {Appended, Stale}
                expected.append(b"%d-%d" % (number, isinstance(two, Appended)))
                row = await bench.row("a")
            assert await bench.history(row) == expected

    asyncio.run(main())


def test_batches_that_lock_each_other_out(server: Server) -> None:
    """Families that end and messages in opposite orders: deadlocks are found, and done again."""

    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            other = await bench.another()
            worker = await bench.worker()
            names = [f"r{number}" for number in range(20)]
            rows = [await bench.make(name, owner=worker) for name in names]
            for round in range(5):
                sends = [bench.store.send(name, b"%d" % round, now=NOW) for name in names]
                sends += [other.send(name, b"%d" % round, now=NOW) for name in reversed(names)]
                batch = [
                    bench.change(
                        row, b"e", expected=round + 1, epoch=row.epoch, effects=[StepDetail("s", b"", NOW)]
                    )
                    for row in rows
                ]
                answers, *told = await asyncio.gather(bench.store.append(batch), *sends)
                assert all(isinstance(answer, Appended) for answer in answers)
                assert set(told) == {Delivery.DELIVERED}
            for row in rows:
                assert sorted(await bench.inbox(row)) == sorted(b"%d" % n for n in range(5) for _ in (0, 1))

    asyncio.run(main())


def test_parents_and_children_end_at_the_same_time(server: Server) -> None:
    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            other = await bench.another()
            worker = await bench.worker()
            for number in range(20):
                parent = await bench.make(f"p{number}", owner=worker)
                child = bench.new(f"c{number}", owner=worker, parent_op="op#1")
                parent = await bench.put(parent, b"starts", children=[child])
                row = await bench.row(f"c{number}")
                ending = bench.change(parent, b"end", status=Status.COMPLETED)
                childs = bench.change(row, b"end", status=Status.COMPLETED, parent_mail=b"child ended")
                (one,), (two,) = await asyncio.gather(bench.store.append([ending]), other.append([childs]))
                assert isinstance(one, Appended)
                assert isinstance(two, Appended)
                assert (await bench.row(parent.id)).status == Status.COMPLETED
                assert (await bench.row(row.id)).status == Status.COMPLETED

    asyncio.run(main())


def test_appends_of_one_run_keep_their_order_through_restarts(server: Server) -> None:
    """Handed in without waiting for each other, as the journal does."""

    async def main() -> None:
        async with bench_on(server.url(server.new_database())) as bench:
            row = await bench.make("a", owner=await bench.worker())
            futures: list[asyncio.Future[Any]] = []
            chain = row.chain
            for number in range(200):
                event = b"%d" % number
                chain = link(chain, event)
                change = Append(row.run, number + 1, row.epoch, bench.next_attempt(), [event], NOW, [chain])
                futures.append(bench.store.append([change]))
                if number == 100:
                    await asyncio.to_thread(server.restart)
            assert [answer for (answer,) in await asyncio.gather(*futures)] == [
                Appended(number + 2) for number in range(200)
            ]
            assert await bench.history(row) == [b"first", *(b"%d" % number for number in range(200))]

    asyncio.run(main())


def test_the_quick_way_comes_back_by_itself(server: Server) -> None:
    """An idle connection that the server ends is noticed, and lone appends have a new one."""

    async def main() -> None:
        database = server.new_database()
        store = PostgresStore(server.url(database))
        bench = Bench(lambda: store)
        await bench.open()
        row = await bench.put(await bench.make("a", owner=await bench.worker()), b"1")
        assert store._express.sent == 1
        first = store._express._connection
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        async with asyncio.timeout(60):
            while store._express._connection is first or store._express._pgconn is None:
                await asyncio.sleep(0.01)
        row = await bench.put(row, b"2")
        assert store._express.sent == 2
        assert await bench.history(row) == [b"first", b"1", b"2"]
        await bench.close()

    asyncio.run(main())
