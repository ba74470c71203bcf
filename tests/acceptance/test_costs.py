"""Agents on two workers, killed again and again: the ledger and the provider's own books agree."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import analysts
import pytest
from world import HERE, SOAK, Process, World, until

from perdure.testing.fake_llm import FakeLLM

pytestmark = pytest.mark.acceptance

RUNS, DOCUMENTS, KILLS = (20, 20, 10) if SOAK else (6, 8, 3)


def test_no_call_is_hidden_or_counted_twice_whoever_is_killed(
    either: World, figure: Callable[[str], None]
) -> None:
    world = either

    def start_worker(provider: str) -> Process:
        worker = world.start(sys.executable, str(HERE / "analysts.py"), world.url, provider)
        worker.wait_ready()
        return worker

    async def scenario() -> None:
        with FakeLLM(latency=0.1) as llm:
            workers = [start_worker(llm.url) for _ in range(2)]
            async with world.client() as client:
                calls = [analysts.research(f"topic {number}", DOCUMENTS) for number in range(RUNS)]
                handles = await client.start_many(calls)
                for number in range(KILLS):
                    share = RUNS * DOCUMENTS * (number + 1) // (KILLS + 2)
                    await until(lambda share=share: reached(llm, share))
                    for worker in workers:  # one of them may drive nothing at all
                        worker.kill()
                    workers = [start_worker(llm.url) for _ in range(2)]
                async with asyncio.timeout(180):
                    for handle in handles:
                        await handle.result()
                ((whole,), keys) = await client.usage(), llm.hits
                found = whole.usage
                in_runs = sum([(await handle.usage()).calls for handle in handles])
        extra = len(llm.billed) - RUNS * DOCUMENTS
        figure(
            f"{RUNS * DOCUMENTS} calls, {KILLS} kills: {len(llm.billed)} billed, {found.calls} in the ledger for "
            f"{found.cost} USD and {found.unknown_calls} unknown for at most {found.unknown_cost} USD; replays saved "
            f"{found.saved_calls} calls, {found.saved_cost} USD"
        )
        assert (found.calls, found.calls_in_flight, found.unpriced_calls) == (RUNS * DOCUMENTS, 0, 0)
        assert in_runs == found.calls
        assert len(keys) == RUNS * DOCUMENTS  # every step has asked, under one key
        assert 0 <= extra <= found.unknown_calls <= KILLS * RUNS
        assert found.saved_calls > 0

    asyncio.run(scenario())


async def reached(llm: FakeLLM, count: int) -> bool:
    return len(llm.billed) >= count
