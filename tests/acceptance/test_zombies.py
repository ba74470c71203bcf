"""A worker that is stopped past its lease, and wakes up: its late writes are refused, nothing is recorded twice.

Guarantee 4 of the contract. SIGSTOP is what a paused virtual machine, a swapping host or a debugger does.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

import program
import pytest
from world import World, bodies_begun, check_books, logged, results

from perdure import events

pytestmark = pytest.mark.acceptance

LEASE = "1.0"


def test_a_zombies_writes_are_refused(world: World, figure: Callable[[str], None]) -> None:
    async def scenario() -> None:
        async with world.client() as client:
            zombie = world.start_worker("--lease", LEASE)
            zombie.wait_ready()
            calls = [program.chain(30, 0.05) for _ in range(5)]
            handles = await client.start_many(calls, ids=[f"c{number}" for number in range(5)])
            handles += await client.start_many([program.retried(n) for n in range(5)])
            await bodies_begun(world, 20)
            zombie.signal(signal.SIGSTOP)
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


def test_workers_that_stop_and_wake_at_random_lose_nothing(
    world: World, figure: Callable[[str], None]
) -> None:
    """Both workers are zombies in turn, again and again."""

    async def scenario() -> None:
        async with world.client() as client:
            fleet = [world.start_worker("--lease", "0.5") for _ in range(2)]
            for worker in fleet:
                worker.wait_ready()
            calls = [program.mixed(number) for number in range(20)] + [program.chain(80, 0.02)]
            handles = await client.start_many(calls)
            for turn in range(6):
                fleet[turn % 2].signal(signal.SIGSTOP)
                await asyncio.sleep(0.9)
                fleet[turn % 2].signal(signal.SIGCONT)
                await asyncio.sleep(0.1)
            await results(handles)
            outcomes: Counter[tuple[str, str]] = Counter()
            async for run in client.runs(limit=None):
                async for event in client.get(run.id).history():
                    if isinstance(event, events.StepCompleted):
                        outcomes[run.id, event.step] += 1
            assert set(outcomes.values()) == {1}
            figure(str(await check_books(world, client, zombies=True)))

    asyncio.run(scenario())
