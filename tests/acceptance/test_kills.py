"""SIGKILL at random moments: every run completes, and nothing that was recorded is done again.

Guarantee 1 of the contract, in real life: real processes, a real file or server, an external ledger. The seed is
printed, and PERDURE_SEED repeats one; PERDURE_SOAK=1 kills many more times.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import program
import pytest
from world import SOAK, Findings, Process, World, check_books, results, seeded, unfinished_bodies

import perdure
from perdure import Engine, Handle

pytestmark = pytest.mark.acceptance

KILLS = 63 if SOAK else 32  # of one worker on a file: 60 in all with every `make test`, 504 in a night's run
AT_ONCE = 12  # runs at a time
UNFINISHED = [status for status in perdure.Status if not status.final]


async def reference(numbers: range, folder: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The results of runs that nothing interrupts."""
    monkeypatch.setenv("LEDGER", str(folder.folder / "reference.jsonl"))
    async with Engine("memory:") as engine:
        return await results([await engine.start(program.mixed(number)) for number in numbers])


class Attack:
    """Keeps runs going and kills whoever drives them.

    Attributes:
        kills: SIGKILLs sent so far.
        restarts: immediate restarts of the PostgreSQL server.
        hits: those that came while the worker had begun work and runs were unfinished.
        inside: those of them that came while a step's body was executing.
    """

    def __init__(
        self, world: World, client: Engine, chance: random.Random, figure: Callable[[str], None]
    ) -> None:
        self.world = world
        self.client = client
        self.chance = chance
        self.figure = figure
        self.handles: list[Handle[int]] = []
        self.kills = self.hits = self.inside = self.restarts = 0

    async def keep_busy(self) -> None:
        """Start the next runs when the last ones are nearly done."""
        live = [run async for run in self.client.runs(status=UNFINISHED, limit=None) if not run.parent]
        if len(live) <= 2:
            first = len(self.handles)
            calls = [program.mixed(number) for number in range(first, first + AT_ONCE)]
            self.handles += await self.client.start_many(calls, ids=[f"m{first + i}" for i in range(AT_ONCE)])

    async def kill_one(self, worker: Process) -> float:
        at = worker.kill()
        self.kills += 1
        lines = self.world.lines()
        inside = unfinished_bodies(lines, worker.pid) > 0
        began = any(line.pid == worker.pid for line in lines)
        self.hits += inside or (began and await self.unfinished())
        self.inside += inside
        return at

    async def restart_server(self) -> None:
        """Now and then, where there is one: as if it had crashed."""
        if self.world.server is not None and self.chance.random() < 0.15:
            await asyncio.to_thread(self.world.server.restart, self.chance.uniform(0.0, 0.3))
            self.restarts += 1

    async def unfinished(self) -> bool:
        return bool([run async for run in self.client.runs(status=UNFINISHED, limit=1)])

    async def finish(self, monkeypatch: pytest.MonkeyPatch) -> Findings:
        """Wait for all runs, compare with uninterrupted ones, check the books."""
        found = await results(self.handles)
        expected = await reference(range(len(self.handles)), self.world, monkeypatch)
        assert found == expected
        findings = await check_books(self.world, self.client)
        self.figure(
            f"{self.kills} kills, {self.hits} while work was in progress, {self.inside} inside a step, "
            f"{self.restarts} restarts of the database server; {findings}"
        )
        return findings


@pytest.mark.parametrize("number", [1, 2] if SOAK else [1])
def test_one_worker_killed_again_and_again(
    either: World,
    number: int,
    figure: Callable[[str], None],
    tally: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance, world = seeded(number), either
    kills = KILLS if SOAK or world.server is None else 8

    async def scenario() -> None:
        async with world.client() as client:
            attack = Attack(world, client, chance, figure)
            while attack.hits < kills:
                await attack.keep_busy()
                worker = world.start_worker()
                if chance.random() < 0.9:
                    worker.wait_ready()
                await asyncio.sleep(chance.uniform(0.0, 0.35))
                await attack.restart_server()
                await attack.kill_one(worker)
            world.start_worker()
            await attack.finish(monkeypatch)
            tally("kill -9 cycles that hit", attack.hits)

    asyncio.run(scenario())


@pytest.mark.parametrize("workers", [2, 4])
def test_survivors_take_over(
    either: World,
    workers: int,
    figure: Callable[[str], None],
    tally: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several workers on one database; one after the other is killed, and another one started in its place."""
    chance, world = seeded(workers), either
    kills = KILLS if SOAK else 6 if world.server is None else 4

    async def scenario() -> None:
        async with world.client() as client:
            attack = Attack(world, client, chance, figure)
            fleet = [world.start_worker() for _ in range(workers)]
            for worker in fleet:
                worker.wait_ready()
            moments: list[float] = []
            while attack.hits < kills:
                await attack.keep_busy()
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                await attack.restart_server()
                victim = chance.randrange(workers)
                moments.append(await attack.kill_one(fleet[victim]))
                fleet[victim] = world.start_worker()
                fleet[victim].wait_ready()
            findings = await attack.finish(monkeypatch)
            tally("kill -9 cycles that hit", attack.hits)
            assert findings.taken_over > 0
            latencies = await take_over_times(client, moments)
            figure(
                f"{workers} workers: a victim's runs recorded again after "
                f"{latencies[len(latencies) // 2]:.0f} ms (median), {latencies[-1]:.0f} ms (longest)"
            )

    asyncio.run(scenario())


async def take_over_times(client: Engine, kills: list[float]) -> list[float]:
    """Milliseconds from a kill to the first sign of life of each run that a survivor took over, sorted."""
    found: list[float] = []
    async for run in client.runs(limit=None):
        async for event in client.get(run.id).history():
            if isinstance(event, perdure.events.RunRecovered):
                before = [at for at in kills if at <= event.at]
                if before:
                    found.append((event.at - before[-1]) * 1000)
    return sorted(found)
