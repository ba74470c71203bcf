"""A run of twenty calls of a model, its worker killed again and again: only calls in flight are paid twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest
from world import HERE, Process, World, until

from perdure.testing.fake_llm import FakeLLM

pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
import model_agents

pytestmark = pytest.mark.acceptance

CALLS, KILLS = 20, 3


def test_only_calls_in_flight_are_paid_twice(either: World, figure: Callable[[str], None]) -> None:
    world = either

    def start_worker(provider: str) -> Process:
        worker = world.start(sys.executable, str(HERE / "model_agents.py"), world.url, provider)
        worker.wait_ready()
        return worker

    async def scenario() -> None:
        with FakeLLM(latency=0.1) as llm:
            async with world.client() as client:
                worker = start_worker(llm.url)
                handle = await client.start(model_agents.agent(CALLS), id="agent")
                for number in range(KILLS):
                    share = CALLS * (number + 1) // (KILLS + 1)
                    await until(lambda share=share: reached(llm, share))
                    worker.kill()
                    worker = start_worker(llm.url)
                said = await handle.result(timeout=180)
                usage = await handle.usage()
                pieces = [item.value async for item in handle.stream("tokens")]
            extra = len(llm.billed) - CALLS
            figure(f"{CALLS} calls, {KILLS} kills: {len(llm.billed)} billed, {usage.unknown_calls} unknown")
            assert len(said) == len(llm.hits) == CALLS  # each under a key of its own
            assert "".join(pieces) == "".join(said)  # what was emitted twice counts once
            assert 0 <= extra <= KILLS
            assert extra <= usage.unknown_calls <= KILLS
            assert (usage.calls, usage.calls_in_flight, usage.unpriced_calls) == (CALLS, 0, 0)
            if world.database.exists():
                assert b"secret-key" not in world.database.read_bytes()

    asyncio.run(scenario())


async def reached(llm: FakeLLM, count: int) -> bool:
    return len(llm.billed) >= count
