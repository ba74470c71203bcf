"""Three worker processes bring events to runs and workflows, some are killed meanwhile: each gets each once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import subscribed
from world import HERE, SOAK, Process, World, seeded, until

from perdure import Engine, events

pytestmark = pytest.mark.acceptance

TICKS, LISTENERS, KILLS = (400, 12, 20) if SOAK else (80, 4, 3)


def start_worker(world: World) -> Process:
    worker = world.start(sys.executable, str(HERE / "subscribed.py"), world.url)
    worker.wait_ready()
    return worker


async def results_of(client: Engine, workflow: Any) -> list[Any]:
    return [
        await client.get(run.id).result()
        async for run in client.runs(workflow=workflow.name, status="completed", limit=None)
    ]


def test_each_event_reaches_each_who_wants_it_once(either: World, figure: Callable[[str], None]) -> None:
    world = either
    chance = seeded()

    async def scenario() -> None:
        workers = [start_worker(world) for _ in range(3)]
        async with world.client() as client:
            began = time.time()
            everything = await client.start_many([subscribed.hears_all(TICKS) for _ in range(LISTENERS)])
            lanes = await client.start_many(
                [subscribed.hears_a_lane(lane, TICKS // subscribed.LANES) for lane in range(subscribed.LANES)]
                * 2
            )

            async def publishes() -> None:
                for number in range(TICKS):
                    assert await client.publish("tick", subscribed.tick(number), key=str(number))
                    if number % 9 == 0:
                        assert not await client.publish("tick", subscribed.tick(number), key=str(number))
                    await asyncio.sleep(chance.uniform(0.0, 0.02))

            publishing = asyncio.create_task(publishes())
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.1, 0.6))
                place = chance.randrange(3)
                workers[place].kill()
                workers[place] = await asyncio.to_thread(start_worker, world)
            await publishing

            async with asyncio.timeout(600 if SOAK else 180):
                for handle in everything:
                    assert await handle.result() == list(range(TICKS))
                for place, handle in enumerate(lanes):
                    lane = place % subscribed.LANES
                    assert await handle.result() == list(range(lane, TICKS, subscribed.LANES))
            took = time.time() - began
            echoes = TICKS

            async def all_done() -> bool:
                started = [run async for run in client.runs(limit=None)]
                settled = [one.settled async for one in client.publications(limit=None)]
                return (
                    all(settled)
                    and len(settled) == TICKS + echoes
                    and all(run.status == "completed" for run in started)
                    and sum(len(batch) for batch in await results_of(client, subscribed.batches)) >= TICKS
                    and len(await results_of(client, subscribed.echoes)) >= echoes
                )

            await until(all_done)
            once = Counter(range(TICKS))
            assert Counter(await results_of(client, subscribed.each)) == once
            assert sorted(await results_of(client, subscribed.half)) == [
                number for number in range(TICKS) if number % subscribed.LANES in (0, 1)
            ]
            batches = await results_of(client, subscribed.batches)
            assert Counter(number for batch in batches for number in batch) == once
            assert max(map(len, batches)) <= 7
            assert Counter(await results_of(client, subscribed.echoes)) == once
            recovered = 0
            for handle in [*everything, *lanes]:
                history = [event async for event in handle.history()]
                recovered += sum(isinstance(event, events.RunRecovered) for event in history)
            heard = LISTENERS * TICKS + 2 * TICKS
            figure(
                f"{TICKS} events heard {heard} times by {LISTENERS + len(lanes)} runs, and by {TICKS * 5 // 2} runs "
                f"that they started, in {took:.1f} s; {KILLS} workers killed, {recovered} take-overs"
            )

    asyncio.run(scenario())
