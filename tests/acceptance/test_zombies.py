"""A worker that is stopped past its lease, and wakes up: its late writes are refused, nothing is recorded twice.

Guarantee 4 of the contract. SIGSTOP is what a paused virtual machine, a swapping host or a debugger does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable

import apsw
import program
import pytest
from world import SOAK, Process, World, bodies_begun, check_books, logged, results, seeded

import perdure
from perdure import Engine, Handle

pytestmark = pytest.mark.acceptance

LEASE = "1.0"
PAUSES = 50 if SOAK else 3
UNFINISHED = [status for status in perdure.Status if not status.final]


def test_a_zombies_writes_are_refused(world: World, figure: Callable[[str], None]) -> None:
    async def scenario() -> None:
        async with world.client() as client:
            zombie = world.start_worker("--lease", LEASE)
            zombie.wait_ready()
            calls = [program.chain(30, 0.05) for _ in range(5)]
            handles = await client.start_many(calls, ids=[f"c{number}" for number in range(5)])
            handles += await client.start_many([program.retried(n) for n in range(5)])
            await bodies_begun(world, 20)
            await stop(world, zombie)
            survivor = world.start_worker("--lease", LEASE)
            survivor.wait_ready()
            await bodies_begun(world, 15, survivor.pid)
            zombie.signal(signal.SIGCONT)
            expected = [sum(2 * n for n in range(30))] * 5 + [2 * n + 1 for n in range(5)]
            assert await results(handles) == expected
            findings = await check_books(world, client, zombies=True)
            figure(str(findings))
            assert findings.taken_over > 0
            assert len(findings.too_late) <= 1, "at most the body that was to begin when it was stopped"
            await logged(zombie, "declared dead")

    asyncio.run(scenario())


async def stop(world: World, worker: Process) -> None:
    """SIGSTOP, but not amid a transaction of SQLite: nobody else could write then, and there is no remedy."""
    while True:
        worker.signal(signal.SIGSTOP)
        if world.server is not None or writable(world):
            return
        worker.signal(signal.SIGCONT)
        await asyncio.sleep(0.01)


def writable(world: World) -> bool:
    connection = apsw.Connection(str(world.database))
    connection.set_busy_timeout(1000)  # the others write, too
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except apsw.BusyError:
        return False
    finally:
        connection.close()
    return True


class Zombies:
    """Two workers, each of which is stopped past its lease now and then.

    Attributes:
        hits: pauses in which a worker that drove runs was declared dead.
        missed: those that came when it drove none, or after which nobody dared to declare it dead for ten seconds.
    """

    def __init__(self, world: World, client: Engine, chance: random.Random) -> None:
        self.world = world
        self.client = client
        self.chance = chance
        self.fleet = [world.start_worker("--lease", "0.7") for _ in range(2)]
        self.handles: list[Handle[int]] = []
        self.hits = self.missed = 0
        for worker in self.fleet:
            worker.wait_ready()

    async def keep_busy(self) -> None:
        if len([run async for run in self.client.runs(status=UNFINISHED, limit=None)]) < 12:
            numbers = range(len(self.handles), len(self.handles) + 16)
            self.handles += await self.client.start_many([program.mixed(number) for number in numbers])

    async def stop_one(self) -> None:
        """Until it is declared dead; then it wakes up, and has to notice."""
        worker = self.chance.choice(self.fleet)
        own = [row.id for row in await self.client._store.workers() if row.pid == worker.pid]
        said = worker.log.read_text().count("declared dead")
        await stop(self.world, worker)
        held = sum([len(await self.client._store.owned(id)) for id in own])
        buried = False
        with contextlib.suppress(
            TimeoutError
        ):  # on a machine that hiccups the other one trusts its clock too little
            async with asyncio.timeout(10.0):
                while any(row.id in own for row in await self.client._store.workers()):
                    await asyncio.sleep(0.02)
                buried = True
        await asyncio.sleep(self.chance.uniform(0.0, 0.3))
        worker.signal(signal.SIGCONT)
        if buried:
            await logged(worker, "declared dead", times=said + 1)
        self.hits += buried and held > 0
        self.missed += not (buried and held > 0)


def test_workers_that_stop_and_wake_at_random_lose_nothing(
    either: World,
    figure: Callable[[str], None],
    tally: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both workers are zombies in turn, again and again."""
    chance, world = seeded(), either

    async def scenario() -> None:
        async with world.client() as client:
            zombies = Zombies(world, client, chance)
            while zombies.hits < PAUSES:
                await zombies.keep_busy()
                await asyncio.sleep(chance.uniform(0.05, 0.5))
                await zombies.stop_one()
            found = await results(zombies.handles)
            monkeypatch.setenv("LEDGER", str(world.folder / "reference.jsonl"))
            async with Engine("memory:") as engine:
                calls = [program.mixed(number) for number in range(len(found))]
                assert found == await results(await engine.start_many(calls))
            findings = await check_books(world, client, zombies=True)
            assert findings.taken_over > 0
            figure(
                f"{zombies.hits} pauses past the lease of a worker that drove runs ({zombies.missed} more of one that "
                f"drove none, or that wasn't declared dead); {findings}; 0 lost, 0 recorded twice, 0 stuck"
            )
            tally("zombie pauses", zombies.hits)

    asyncio.run(scenario())
