"""Exactly once for each slot: workers that die at any transaction of the firing, and several on one database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Place, Places, Wrapped, bury, crash, run
from scheduling_kit import GATES, Clock, ids, lasts, notes, slot_ids

import perdure

SLOTS = [60, 120, 180, 240]


@pytest.fixture
def clock() -> Clock:
    GATES.clear()
    return Clock()


class Dying(Wrapped):
    """Dies at the n-th change of a schedule, before or after it is durable: from then on nothing answers."""

    def __init__(self, inner: Any, dies_at: int, commits: bool) -> None:
        super().__init__(inner)
        self.left = dies_at
        self.commits = commits
        self.dead = asyncio.Event()

    @property
    def schedules(self) -> Any:
        return DyingSchedules(self)


class DyingSchedules(Wrapped):
    def __init__(self, store: Dying) -> None:
        super().__init__(store.inner.schedules)
        self.store = store

    async def change(self, row: Any, **given: Any) -> bool:
        store = self.store
        store.left -= 1
        if store.left > 0:
            return bool(await self.inner.change(row, **given))
        if store.left == 0 and store.commits:
            await self.inner.change(row, **given)
        store.dead.set()
        return bool(await asyncio.get_running_loop().create_future())


async def fires(clock: Clock, engine: perdure.Engine, overlap: Any) -> None:
    """Let all slots come, one after another, and everything end."""
    schedule = engine.schedules.get("s")
    for at in SLOTS:
        if clock() < clock.moment(at).timestamp():
            clock.to(at)

        async def settled() -> bool:
            info = await schedule.info()
            ended = {item.id async for item in engine.runs(limit=None) if item.status.final}
            return (not info.next or info.next[0] > clock.moment(at)) and set(info.running) <= ended

        await clock.until(settled)

    async def empty() -> bool:
        return not (await schedule.info()).buffered

    await clock.until(empty)
    for id in await ids(engine):
        await engine.get(id).result()


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("overlap", ["skip", "buffer_one", "buffer_all", "allow", "cancel_other"])
def test_a_crash_at_any_change_fires_no_slot_twice_and_loses_none(
    overlap: Any, commits: bool, make_place: Places
) -> None:
    async def main() -> int:
        number, died = 0, True
        while died:
            number += make_place.stride
            died = await disturbed(make_place(), overlap, number, commits)
        return number

    assert run(main) > len(SLOTS)


async def disturbed(place: Place, overlap: Any, dies_at: int, commits: bool) -> bool:
    clock = Clock()
    async with clock.engine(place, worker=False) as client:
        await client.schedules.create("s", notes("x"), every=60, overlap=overlap)
    engine = clock.engine(place, lambda inner: Dying(inner, dies_at, commits))
    await engine.__aenter__()
    store: Any = engine._store
    firing = asyncio.ensure_future(fires(clock, engine, overlap))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([firing, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    firing.cancel()
    dying.cancel()
    await asyncio.gather(firing, dying, return_exceptions=True)
    await crash(engine)
    await bury(place, clock=clock)
    async with clock.engine(place) as after:
        await fires(clock, after, overlap)
        assert await ids(after, "completed") == slot_ids("s", *SLOTS), f"died at change {dies_at}"
        info = await after.schedules.get("s").info()
        assert (info.fired, info.skipped, info.missed) == (len(SLOTS), 0, 0)
    return died


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_fire_each_slot_once(workers: int, place: Place, clock: Clock) -> None:
    async def main() -> None:
        engines = [clock.engine(place) for _ in range(workers)]
        for engine in engines:
            await engine.__aenter__()
        try:
            first = engines[0]
            await first.schedules.create("s", notes("x"), every=1, overlap="allow")
            for at in range(1, 31):
                clock.to(at)
                await asyncio.sleep(0)
            await clock.until(lambda: _fired(first, 30))
            assert await ids(first) == slot_ids("s", *range(1, 31))
            info = await first.schedules.get("s").info()
            assert (info.fired, info.skipped, info.missed) == (30, 0, 0)
        finally:
            for engine in engines:
                await engine.close()

    run(main)


def test_several_workers_agree_on_overlap(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as one, clock.engine(place) as two:
            await one.schedules.create("s", lasts("g"), every=1, overlap="buffer_one")
            for at in range(1, 11):
                clock.to(at)
                await asyncio.sleep(0.005)

            async def all_dealt_with() -> bool:
                info = await two.schedules.get("s").info()
                return info.next[0] == clock.moment(11)

            await clock.until(all_dealt_with)
            info = await one.schedules.get("s").info()
            assert (info.fired, info.skipped, len(info.buffered)) == (1, 8, 1)
            GATES.setdefault("g", asyncio.Event()).set()

            async def both_ran() -> bool:
                return await ids(two, "completed") == slot_ids("s", 1, 2)

            await clock.until(both_ran)

    run(main)


async def _fired(engine: perdure.Engine, number: int) -> bool:
    return (await engine.schedules.get("s").info()).fired == number


def test_a_store_that_refuses_for_a_while_costs_no_slot(
    place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class RefusingSchedules(Wrapped):
        refused = 0

        async def change(self, row: Any, **given: Any) -> bool:
            if RefusingSchedules.refused < 2:
                RefusingSchedules.refused += 1
                raise perdure.StoreError("the disk is full (a test says so)")
            return bool(await self.inner.change(row, **given))

    class Refuses(Wrapped):
        @property
        def schedules(self) -> Any:
            return RefusingSchedules(self.inner.schedules)

    async def main() -> None:
        async with clock.engine(place, Refuses) as engine:
            await engine.schedules.create("s", notes("x"), every=60)
            clock.to(60)
            await clock.until(lambda: _fired(engine, 1))

    run(main)
    assert RefusingSchedules.refused == 2
    assert "will try again" in caplog.text
