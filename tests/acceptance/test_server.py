"""A PostgreSQL server that dies, loses replies, and has no room: nothing is lost, recorded twice, or stuck.

Three workers under load, which are left alone; what breaks is the server, or the way to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import program
import psycopg
import pytest
from world import PATIENCE, SOAK, Process, World, check_books, results, seeded, until

import perdure
from helpers.postgres import Server
from helpers.proxies import Proxy
from perdure import Engine, Handle

pytestmark = pytest.mark.acceptance

RESTARTS = 50 if SOAK else 4
LOST_REPLIES = 1000 if SOAK else 40
DROUGHTS = 10 if SOAK else 1
AT_ONCE = 12
UNFINISHED = [status for status in perdure.Status if not status.final]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(max_connections="60", superuser_reserved_connections="3")
    yield made
    made.remove()


class Load:
    """Keeps workers busy."""

    def __init__(self, world: World, client: Engine, workers: int) -> None:
        self.world = world
        self.client = client
        self.handles: list[Handle[int]] = []
        self.fleet: list[Process] = [world.start_worker(PERDURE_LOG="INFO") for _ in range(workers)]
        for worker in self.fleet:
            worker.wait_ready()
        self._wanted = True
        self._task = asyncio.create_task(self._keep_busy())

    async def _keep_busy(self) -> None:
        """Start the next runs when the last ones are nearly done, whatever the server does meanwhile."""
        while self._wanted:
            with contextlib.suppress(perdure.StoreError):
                live = [
                    run async for run in self.client.runs(status=UNFINISHED, limit=None) if not run.parent
                ]
                if len(live) <= 3:
                    numbers = range(len(self.handles), len(self.handles) + AT_ONCE)
                    ids = [f"m{number}" for number in numbers]
                    calls = [program.mixed(number) for number in numbers]
                    made = await self.client.start_many(calls, ids=ids)  # a repeat starts nothing twice
                    self.handles += made
            await asyncio.sleep(0.05)

    async def executing(self) -> int:
        """How many bodies have just begun and not ended, by the books; waits until there are some."""
        found = 0

        async def some() -> bool:
            nonlocal found
            lines = self.world.lines()
            ended = {(line.run, line.step, line.attempt) for line in lines if line.what == "end"}
            begun = {(line.run, line.step, line.attempt) for line in lines if line.time > time.time() - 0.5}
            found = len(begun - ended)
            return found > 0

        await until(some)
        return found

    async def check(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """All runs end with the results of runs that nothing interrupts, and no worker has died."""
        self._wanted = False  # not cancelled: it may be starting runs just now, of which we'd have no handles
        await self._task
        found = await results(self.handles)
        monkeypatch.setenv("LEDGER", str(self.world.folder / "reference.jsonl"))
        async with Engine("memory:") as engine:
            calls = [program.mixed(number) for number in range(len(self.handles))]
            assert found == await results(await engine.start_many(calls))
        assert all(worker.popen.poll() is None for worker in self.fleet)
        findings = await check_books(self.world, self.client)
        return f"{findings}; 0 lost, 0 recorded twice, 0 stuck"

    def logged(self, text: str) -> int:
        return sum(worker.log.read_text().count(text) for worker in self.fleet)


@asynccontextmanager
async def load(
    tmp_path: Path, server: Server, port: int | None = None, workers: int = 3
) -> AsyncIterator[Load]:
    with ExitStack() as left:
        world = World(tmp_path / "world", server, port)
        left.callback(world.close)
        database = world.url.rpartition("/")[2]
        server.execute("CREATE ROLE app LOGIN")  # for whom no connections are kept, unlike for the superuser
        server.execute(f"ALTER DATABASE {database} OWNER TO app")
        world.move_to(server.url(database, port=port, user="app"))
        async with world.client() as client:
            yield Load(world, client, workers)


def test_a_server_that_dies_again_and_again(
    server: Server,
    tmp_path: Path,
    figure: Callable[[str], None],
    tally: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped at once and started anew, or one of its processes killed, which makes it restart all of them."""
    chance = seeded()

    async def scenario() -> None:
        async with load(tmp_path, server) as busy:
            bodies = hit = 0
            kinds = {"immediate restart": 0, "kill -9 of a backend": 0}
            for number in range(RESTARTS):
                bodies += (executing := await busy.executing())
                hit += executing > 0
                if number % 3 == 2:
                    kinds["kill -9 of a backend"] += await asyncio.to_thread(kill_a_backend, server, chance)
                else:
                    await asyncio.to_thread(server.restart, chance.uniform(0.0, 0.4))
                    kinds["immediate restart"] += 1
                await asyncio.sleep(chance.uniform(0.2, 1.0))
            said = await busy.check(monkeypatch)
            assert sum(kinds.values()) == hit == RESTARTS
            told = ", ".join(f"{times} x {kind}" for kind, times in kinds.items())
            figure(f"{told}, while {bodies} bodies were executing; {said}")
            tally("restarts of PostgreSQL under load", hit)

    asyncio.run(scenario())


def kill_a_backend(server: Server, chance: random.Random) -> int:
    """Of the engine's; the server then ends all others, and recovers."""
    deadline = time.monotonic() + PATIENCE
    found: list[tuple[object, ...]] = []
    while not found:  # the workers may not be connected again yet
        assert time.monotonic() < deadline
        found = insist(server, _BACKENDS, deadline)
    (pid,) = chance.choice(found)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    insist(server, "SELECT 1", deadline)
    return 1


_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'perdure' AND backend_type = 'client backend'"
)


def insist(server: Server, statement: str, deadline: float) -> list[tuple[object, ...]]:
    """Ask until the server answers."""
    while True:
        try:
            return server.execute(statement)
        except psycopg.Error:
            assert time.monotonic() < deadline, "the server didn't come back"
            time.sleep(0.05)


def test_replies_to_commits_that_get_lost(
    server: Server,
    tmp_path: Path,
    figure: Callable[[str], None],
    tally: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commit happens; whoever waits for it hears only that the connection is gone."""
    chance = seeded()

    async def scenario() -> None:
        with Proxy(server.port) as proxy:
            async with load(tmp_path, server, proxy.port, workers=5 if SOAK else 3) as busy:
                proxy.lose_reply = lambda data: b"COMMIT\0" in data and chance.random() < 0.4
                proxy.lose_reply_to = lambda data: b"perdure_append_one" in data and chance.random() < 0.4

                async def enough() -> bool:
                    return proxy.swallowed >= LOST_REPLIES

                await until(enough, 3000)
                proxy.lose_reply = proxy.lose_reply_to = None
                said = await busy.check(monkeypatch)
                came = busy.logged("though its reply was lost")
                assert came > proxy.swallowed // 10
                figure(
                    f"{proxy.swallowed} replies to commits lost, of which workers found {came} to have come "
                    f"through when they repeated them; {said}"
                )
                tally("cut acknowledgements of commits", proxy.swallowed)

    asyncio.run(scenario())


def test_a_server_without_room_for_connections(
    server: Server, tmp_path: Path, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody takes all connections there are, while the workers lose theirs."""

    async def scenario() -> None:
        async with load(tmp_path, server) as busy:
            refused = 0
            for _ in range(DROUGHTS):
                await busy.executing()
                hoard: list[psycopg.Connection[object]] = []
                try:
                    while True:
                        server.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE application_name = 'perdure'"
                        )
                        with contextlib.suppress(psycopg.OperationalError):
                            for _ in range(80):
                                hoard.append(psycopg.connect(busy.world.url))
                        if len(hoard) >= 40:
                            break
                    refused += len(hoard)
                    await asyncio.sleep(2.0)
                finally:
                    for connection in hoard:
                        connection.close()
                await asyncio.sleep(0.5)
            said = await busy.check(monkeypatch)
            figure(f"{DROUGHTS} times no connection left for 2 s ({refused} were taken); {said}")

    asyncio.run(scenario())
