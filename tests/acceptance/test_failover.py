"""How soon the runs of a worker that is gone go on elsewhere. The times are printed; asserted is what decides them.

On the same host others see that the process has ended, elsewhere its lease has to be over; one that stops in good order
hands its runs back by itself.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator

import program
import pytest
from world import Process, World, bodies_begun, check_books, results, until

from helpers.postgres import Server
from perdure import Engine, Handle, events

pytestmark = pytest.mark.acceptance

RUNS = 8
STEPS = 60
GENEROUS = 20.0  # seconds; a machine may be busy


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world on a PostgreSQL server."""
    server = Server()
    made = World(tmp_path_factory.mktemp("fleet") / "world", server)
    yield made
    made.close()
    server.remove()


async def busy(
    world: World, client: Engine, victim: Process, survivor: Callable[[], Process]
) -> list[Handle[int]]:
    """Runs that the victim drives; then the survivor is started."""
    victim.wait_ready()
    calls = [program.chain(STEPS, 0.05) for _ in range(RUNS)]
    handles = await client.start_many(calls, ids=[f"c{number}" for number in range(RUNS)])
    await bodies_begun(world, 2 * RUNS, victim.pid)
    survivor().wait_ready()
    return handles


async def driven_by(world: World, client: Engine, victim: Process, until: float) -> set[str]:
    """The runs that a worker drove, and that hadn't ended at that moment."""
    found: set[str] = set()
    for id in {line.run for line in world.lines() if line.pid == victim.pid}:
        ended = (await client.get(id).info()).ended_at
        if ended is None or ended.timestamp() > until:
            found.add(id)
    assert found
    return found


async def recoveries(client: Engine, ids: set[str]) -> list[float]:
    """When each of these runs was taken over."""
    found: list[float] = []
    for id in ids:
        async for event in client.get(id).history():
            if isinstance(event, events.RunRecovered):
                found.append(event.at)
                break
    return sorted(found)


async def taken_over(client: Engine, ids: set[str]) -> list[float]:
    async def all_of_them() -> bool:
        return len(await recoveries(client, ids)) == len(ids)

    await until(all_of_them)
    return await recoveries(client, ids)


def test_a_killed_workers_runs_on_the_same_host(fleet: World, figure: Callable[[str], None]) -> None:
    """Long before its lease ends."""
    lease = 120.0

    async def scenario() -> None:
        async with fleet.client() as client:
            victim = fleet.start_worker("--lease", str(lease))
            handles = await busy(fleet, client, victim, lambda: fleet.start_worker("--lease", str(lease)))
            killed = victim.kill()
            driven = await driven_by(fleet, client, victim, killed)
            moments = [at - killed for at in await taken_over(client, driven)]
            await results(handles)
            figure(
                f"{len(driven)} runs of a killed worker on the same host taken over after {moments[0] * 1000:.0f} ms "
                f"to {moments[-1] * 1000:.0f} ms (lease {lease:g} s); {await check_books(fleet, client)}"
            )
            assert moments[-1] < GENEROUS < lease

    asyncio.run(scenario())


def test_a_killed_workers_runs_on_another_host(fleet: World, figure: Callable[[str], None]) -> None:
    """When its lease is over, and not before: for all that others know it may still be at work."""
    lease = 3.0

    async def scenario() -> None:
        async with fleet.client() as client:
            victim = fleet.start_worker("--lease", str(lease), PERDURE_HOST="elsewhere")
            handles = await busy(fleet, client, victim, lambda: fleet.start_worker("--lease", str(lease)))
            killed = victim.kill()
            driven = await driven_by(fleet, client, victim, killed)
            (row,) = [worker for worker in await client.workers() if worker.pid == victim.pid]
            assert (row.host, row.state) == ("elsewhere", "alive")
            over = row.lease_until.timestamp()
            moments = await taken_over(client, driven)
            await results(handles)
            figure(
                f"{len(driven)} runs of a worker killed on another host taken over {moments[0] - over:.2f} s to "
                f"{moments[-1] - over:.2f} s after the end of its lease of {lease:g} s, {moments[-1] - killed:.2f} s "
                f"after the kill; {await check_books(fleet, client)}"
            )
            assert moments[0] >= over
            assert moments[-1] < over + GENEROUS

    asyncio.run(scenario())


def test_the_runs_of_a_worker_that_stops(fleet: World, figure: Callable[[str], None]) -> None:
    """Each as soon as its step has ended; none counts as a death, and nothing is done twice."""

    async def scenario() -> None:
        async with fleet.client() as client:
            leaving = fleet.start_worker("--lease", "120")
            handles = await busy(fleet, client, leaving, lambda: fleet.start_worker("--lease", "120"))
            leaving.signal(signal.SIGTERM)
            at = time.time()
            driven = await driven_by(fleet, client, leaving, at)
            assert await asyncio.to_thread(leaving.wait) == 0
            await results(handles)
            begun: dict[str, float] = {}
            for line in fleet.lines():
                if line.pid != leaving.pid and line.run in driven:
                    begun.setdefault(line.run, line.time - at)
            assert begun
            findings = await check_books(fleet, client)
            figure(
                f"{len(begun)} runs of a worker that got SIGTERM went on elsewhere after "
                f"{min(begun.values()) * 1000:.0f} ms to {max(begun.values()) * 1000:.0f} ms; {findings}"
            )
            assert findings.taken_over == 0
            assert findings.repeated == 0

    asyncio.run(scenario())
