"""What a worker looks for when others change something: after mere ends, for nothing but what waits for an end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from engine_kit import Place, run, until

import perdure
from helpers.costs import Costs, Counted
from helpers.postgres import lent_database
from perdure import step, workflow
from perdure.runtime import fleet, residency

#: Of the test that is under way.
GATES: dict[str, asyncio.Event] = {}
NARROW = perdure.Queue("hints-narrow", concurrency=1)


@pytest.fixture
def fleet_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A PostgreSQL database whose workers do nothing by the clock."""
    monkeypatch.setattr(fleet, "LOOK_EVERY", 3600.0)
    monkeypatch.setattr(residency, "NOTE_AFTER", 3600.0)
    GATES["here"] = asyncio.Event()
    with lent_database() as url:
        yield Place(url=url)


@step(name="hints.held")
async def held() -> str:
    await GATES["here"].wait()
    return "held"


@workflow(name="hints.holds")
async def holds() -> str:
    return await held()


@workflow(name="hints.says")
async def says() -> str:
    return "said"


def test_mere_ends_elsewhere_make_a_worker_look_for_nothing(fleet_of_two: Place) -> None:
    costs: Costs = Counter()
    looks = ("claim", "mail", "inquiries.waiting", "publications.pending")

    async def main() -> None:
        async with fleet_of_two.engine(lease=3600.0) as busy:
            handles = await busy.start_many([holds() for _ in range(30)])
            async with fleet_of_two.engine(lambda store: Counted(store, costs), lease=3600.0) as idle:
                results = [asyncio.ensure_future(idle.get(handle.id).result()) for handle in handles]

                async def all_looked() -> bool:
                    return all(costs[name] for name in looks)

                await busy.run(says())
                await until(all_looked)
                await asyncio.sleep(0.5)  # hints of what was started, and looks that they have led to
                before = Counter(costs)
                GATES["here"].set()
                assert await asyncio.gather(*results) == ["held"] * 30  # whose look a hint has led to

                async def schedules_looked_at() -> bool:
                    return (
                        costs["schedules.due"] > before["schedules.due"]
                    )  # one may wait for its last run's end

                await until(schedules_looked_at)
                assert {name: costs[name] - before[name] for name in looks} == dict.fromkeys(looks, 0)
                await busy.start(says())  # anything else

                async def looked_again() -> bool:
                    return costs["mail"] > before["mail"] and costs["claim"] > before["claim"]

                await until(looked_again)

    run(main)


def test_a_run_gets_its_slot_by_an_end_elsewhere(fleet_of_two: Place) -> None:
    """The worker where that end is can't take the next one itself."""

    async def main() -> None:
        queues = [NARROW]
        async with fleet_of_two.engine(lease=3600.0, queues=queues) as first:
            handle = await first.start(holds(), queue=NARROW)

            async def begun() -> bool:
                assert first._worker is not None
                return bool(first._worker.steps.executing)

            await until(begun)
            async with fleet_of_two.engine(lease=3600.0, queues=queues) as second:
                following = await second.start(says(), queue=NARROW)
                assert first._worker is not None
                assert second._worker is not None
                first._worker._claims.stop()
                claims = second._worker._claims

                async def waits() -> bool:
                    return claims._waits

                await until(waits)
                GATES["here"].set()
                assert await handle.result() == "held"
                assert await following.result() == "said"

    run(main)
