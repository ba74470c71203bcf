"""Agents on three workers, one of them killed amid its calls: the provider never bills more than the budget allows."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import spenders
from world import HERE, Process, World, until

from perdure import Engine
from perdure.storage.ledger import EntryState
from perdure.testing.fake_llm import FakeLLM

pytestmark = pytest.mark.acceptance

RUNS, QUESTIONS, CAP = 10, 12, Decimal("0.50")


def test_three_workers_never_spend_more_than_there_is_whoever_is_killed(
    either: World, figure: Callable[[str], None]
) -> None:
    world = either

    def start_worker(provider: str) -> Process:
        worker = world.start(sys.executable, str(HERE / "spenders.py"), world.url, provider)
        worker.wait_ready()
        return worker

    async def scenario() -> None:
        with FakeLLM(latency=0.3) as llm:
            workers = [start_worker(llm.url) for _ in range(3)]
            async with world.client() as client:
                handles = [
                    await client.start(
                        spenders.research(f"topic {number}", QUESTIONS), id=f"r-{number}", key="t"
                    )
                    for number in range(RUNS)
                ]
                await until(lambda: reached(llm, 8))
                busiest = await pid_of_busiest(client)
                next(worker for worker in workers if worker.pid == busiest).kill()

                async def stopped() -> bool:
                    standing = {str(await handle.status()) for handle in handles}
                    return "blocked" in standing <= {"blocked", "completed"}

                await until(stopped)
                before = await account(client)
                billed = spenders.COST * len(llm.billed)
                assert billed <= CAP
                assert before.spent <= billed <= before.spent + before.unknown
                assert before.reserved == 0
                assert before.left < spenders.MOST  # nothing of it stays unused for no reason
                killed = before.unknown
                await client.budgets.raise_by("team", usd=9)
                async with asyncio.timeout(180):
                    for handle in handles:
                        assert await handle.result() == QUESTIONS
                after = await account(client)
        figure(
            f"{RUNS * QUESTIONS} calls wanted, 3 workers, one killed: stopped at {billed} USD billed of {CAP}, "
            f"{before.spent} known and {killed} unknown; after a raise {spenders.COST * len(llm.billed)} billed"
        )
        assert after.spent == spenders.COST * RUNS * QUESTIONS
        assert (after.reserved, after.unknown, after.waiting) == (0, killed, 0)
        assert spenders.COST * len(llm.billed) <= after.spent + after.unknown

    asyncio.run(scenario())


async def pid_of_busiest(client: Engine) -> int:
    """The process that makes the most calls at this moment."""
    store = client._store
    owners: Counter[int] = Counter()
    for row in await store.get([f"r-{number}" for number in range(RUNS)]):
        if row is not None and row.owner is not None:
            entries = await store.ledger.entries(row.run)
            owners[row.owner] += sum(entry.state is EntryState.OPEN for entry in entries)
    ((busiest, _),) = owners.most_common(1)
    return next(worker.pid for worker in await store.workers() if worker.id == busiest)


async def account(client: Engine) -> Any:
    info = await client.budgets.get("team")
    assert info is not None
    (found,) = info.accounts
    return found


async def reached(llm: FakeLLM, count: int) -> bool:
    return len(llm.billed) >= count
