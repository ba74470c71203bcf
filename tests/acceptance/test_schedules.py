"""Workers that are killed while a schedule fires: every slot has its run, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import program
import pytest
from world import World, check_books, until

pytestmark = pytest.mark.acceptance

EVERY = 0.1
KILLS = 8


def test_killed_workers_fire_each_slot_once(world: World, figure: Callable[[str], None]) -> None:
    async def scenario() -> None:
        chance = random.Random(7)
        async with world.client() as client:
            schedule = await client.schedules.create(
                "s", program.chain(2, 0.001), every=EVERY, overlap="allow"
            )
            workers = [world.start_worker("--lease", "2") for _ in range(3)]
            for worker in workers:
                worker.wait_ready()
            for number in range(KILLS):
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                workers[number % 3].kill()
                workers[number % 3] = world.start_worker("--lease", "2")
                workers[number % 3].wait_ready()
            await schedule.pause()
            info = await schedule.info()

            async def all_ended() -> bool:
                return all([run.status.final async for run in client.runs(limit=None)])

            await until(all_ended)
            ids = sorted([run.id async for run in client.runs(limit=None)])
            assert len(ids) == info.fired
            assert (info.skipped, info.missed) == (0, 0)
            starts = [await anext(client.get(id).history()) for id in ids]
            slots = sorted(event.slot for event in starts)
            gaps = {round(later - earlier, 3) for earlier, later in pairwise(slots)}
            assert gaps == {EVERY}, "a slot is missing, or there twice"
            early = [event for event in starts if event.at < event.slot]
            assert early == []
            figure(f"{len(ids)} slots, {KILLS} kills; {await check_books(world, client)}")

    asyncio.run(scenario())
