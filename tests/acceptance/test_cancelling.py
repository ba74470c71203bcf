"""Cancelling while workers are being killed: the request is never lost, and what was done is undone once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import program
import pytest
from world import World, bodies_begun

from perdure import Engine, RunCancelled, events

pytestmark = pytest.mark.acceptance


def test_cancelled_runs_undo_what_they_did_whoever_dies(world: World) -> None:
    chance = random.Random(7)

    async def scenario() -> None:
        async with world.client() as client:
            handles = [await client.start(program.undoing(number), id=f"u{number}") for number in range(8)]
            worker = world.start_worker()
            await bodies_begun(world, 40)
            for turn, handle in enumerate(handles):
                await handle.cancel(f"turn {turn}")
                await asyncio.sleep(chance.uniform(0.0, 0.2))
                worker.kill()
                worker = world.start_worker()
                await asyncio.sleep(chance.uniform(0.0, 0.3))
            for turn, handle in enumerate(handles):
                with pytest.raises(RunCancelled, match=f"turn {turn}"):
                    await handle.result(timeout=60)
                await check_undone(client, handle.id)
            async for run in client.runs(workflow="waiting"):
                assert await ends_cancelled(client, run.id), "children are cancelled with their parents"

    asyncio.run(scenario())


async def check_undone(client: Engine, id: str) -> None:
    history = [event async for event in client.get(id).history()]
    done = Counter(event.step for event in history if isinstance(event, events.StepCompleted))
    assert set(done.values()) == {1}
    (cancelled,) = (n for n, event in enumerate(history) if isinstance(event, events.CancelRequested))
    # A step that ends in the moment of the cancellation may stand behind it: then the code never sees its result.
    seen = [event for event in history[:cancelled] if isinstance(event, events.StepCompleted)]
    fetched = sum(event.step.startswith("program.fetch#") for event in seen)
    assert fetched == sum(step.startswith("program.compute#") for step in done) > 0


async def ends_cancelled(client: Engine, id: str) -> bool:
    try:
        await client.get(id).result(timeout=60)
    except RunCancelled:
        return True
    return False
