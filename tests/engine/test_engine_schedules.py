"""Schedules in the engine: fired once for each slot, by overlap policy, with what can be done to them from outside."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_kit import Place, run, says
from scheduling_kit import GATES, START, Clock, ids, lasts, notes, slot_ids

import perdure
from perdure import ScheduleConflictError, UnknownScheduleError
from perdure.core.schedules import Timing
from perdure.errors import ConfigurationError, UsageError
from perdure.storage.schedules import ScheduleRow


@pytest.fixture
def clock() -> Clock:
    GATES.clear()
    return Clock()


def test_every_slot_gets_a_run_that_knows_it(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            await engine.schedules.create("often", notes("x"), every=60, overlap="allow")
            clock.to(59.0)
            await asyncio.sleep(0.02)
            assert await ids(engine) == []
            clock.to(60.0)
            await clock.until(lambda: _are(engine, slot_ids("often", 60)))
            clock.to(185.0)
            await clock.until(lambda: _are(engine, slot_ids("often", 60, 120, 180)))
            result = await engine.get(slot_ids("often", 120)[0]).result()
            assert result == f"x often {clock.moment(120).isoformat()}"
            info = await engine.schedules.get("often").info()
            assert (info.fired, info.skipped, info.missed, info.running) == (3, 0, 0, ())
            assert info.next[:2] == (clock.moment(240), clock.moment(300))
            assert [(item.id, item.slot, item.at) for item in info.recent][:1] == [
                (slot_ids("often", 180)[0], clock.moment(180), clock.moment(185))
            ]

    run(main)


async def _are(engine: perdure.Engine, expected: list[str]) -> bool:
    return await ids(engine) == expected


def test_one_shot(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("once", notes("x"), at=clock.moment(100))
            clock.to(100)
            await clock.until(lambda: _are(engine, slot_ids("once", 100)))
            clock.to(10_000)
            await asyncio.sleep(0.02)
            info = await schedule.info()
            assert (info.fired, info.next) == (1, ())

    run(main)


def test_cron(place: Place, clock: Clock) -> None:
    pytest.importorskip("cronsim")

    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("cron", notes("x"), cron="*/15 * * * *", tz="Asia/Tokyo")
            assert (await schedule.info()).next[0] == clock.moment(900)
            clock.to(900)
            await clock.until(lambda: _are(engine, slot_ids("cron", 900)))

    run(main)


def test_slots_without_any_worker_are_caught_up_with(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place, worker=False) as client:
            await client.schedules.create(
                "s", notes("x"), every=60, overlap="allow", catch_up=timedelta(minutes=2)
            )
        clock.to(605)
        async with clock.engine(place) as engine:
            await clock.until(lambda: _are(engine, slot_ids("s", 540, 600)))
            info = await engine.schedules.get("s").info()
            assert (info.fired, info.missed) == (2, 8)

    run(main)


def test_a_clock_that_is_set_back_repeats_nothing(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            await engine.schedules.create("s", notes("x"), every=60, overlap="allow")
            clock.to(130)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120)))
            clock.to(10)
            await asyncio.sleep(0.02)
            clock.to(125)
            await asyncio.sleep(0.02)
            clock.to(180)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120, 180)))
            assert (await engine.schedules.get("s").info()).fired == 3

    run(main)


# -- overlap --------------------------------------------------------------------------------------------


def test_skip(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", lasts("g"), every=60)
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            clock.to(180)
            await clock.until(lambda: _counts(schedule, skipped=2))
            await _ends(clock, engine, slot_ids("s", 60)[0])
            clock.to(240)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 240)))

    run(main)


@pytest.mark.parametrize(("overlap", "waiting"), [("buffer_one", [120]), ("buffer_all", [120, 180, 240])])
def test_buffered_slots_start_when_the_run_has_ended(
    place: Place, clock: Clock, overlap: Any, waiting: list[int]
) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", lasts("g"), every=60, overlap=overlap)
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            clock.to(250)
            await clock.until(lambda: _buffers(schedule, len(waiting)))
            assert (await schedule.info()).skipped == 3 - len(waiting)
            assert (await schedule.info()).buffered == tuple(map(clock.moment, waiting))
            assert await ids(engine) == slot_ids("s", 60)
            GATES["g"].set()
            await clock.until(lambda: _are(engine, slot_ids("s", 60, *waiting)))
            assert (await schedule.info()).buffered == ()

    run(main)


def test_buffered_slots_need_no_poke(place: Place, clock: Clock) -> None:
    """The end of the run is what wakes the scheduler."""

    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", lasts("g"), every=60, overlap="buffer_one")
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            clock.to(120)
            await clock.until(lambda: _buffers(schedule, 1))
            GATES["g"].set()
            while await ids(engine) != slot_ids("s", 60, 120):
                await asyncio.sleep(0.01)

    run(main)


def test_allow(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            await engine.schedules.create("s", lasts("g"), every=60, overlap="allow")
            clock.to(180)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120, 180)))
            GATES["g"].set()

    run(main)


def test_cancel_other(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            await engine.schedules.create("s", lasts("g"), every=60, overlap="cancel_other")
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            clock.to(120)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120)))
            with pytest.raises(perdure.RunCancelled, match="next slot of schedule 's'"):
                await engine.get(slot_ids("s", 60)[0]).result()
            GATES["g"].set()
            await engine.get(slot_ids("s", 120)[0]).result()

    run(main)


async def _counts(schedule: perdure.ScheduleHandle, **numbers: int) -> bool:
    info = await schedule.info()
    return all(getattr(info, name) == number for name, number in numbers.items())


async def _buffers(schedule: perdure.ScheduleHandle, number: int) -> bool:
    return len((await schedule.info()).buffered) == number


async def _ends(clock: Clock, engine: perdure.Engine, id: str) -> None:
    GATES["g"].set()
    await engine.get(id).result()


# -- from outside ---------------------------------------------------------------------------------------


def test_pause_and_resume(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=60, overlap="allow", paused=True)
            clock.to(60)
            await asyncio.sleep(0.02)
            assert await ids(engine) == []
            assert (await schedule.info()).next == ()
            await schedule.pause("holidays")
            info = await schedule.info()
            assert (info.paused, info.reason) == (True, "holidays")
            clock.to(130)
            await schedule.resume()
            await schedule.resume()
            info = await schedule.info()
            assert (info.paused, info.reason, info.next[0]) == (False, None, clock.moment(180))
            clock.to(180)
            await clock.until(lambda: _are(engine, slot_ids("s", 180)))

    run(main)


def test_buffered_slots_wait_for_the_end_of_a_pause(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", lasts("g"), every=60, overlap="buffer_one")
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            clock.to(120)
            await clock.until(lambda: _buffers(schedule, 1))
            await schedule.pause()
            await _ends(clock, engine, slot_ids("s", 60)[0])
            clock.look()
            await asyncio.sleep(0.05)
            assert await ids(engine) == slot_ids("s", 60)
            await schedule.resume()
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120)))

    run(main)


def test_trigger(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=60, paused=True)
            one, two = await asyncio.gather(schedule.trigger(), schedule.trigger())
            assert one.id != two.id
            assert await one.result() == "x s by hand"
            assert await two.result() == "x s by hand"
            info = await schedule.info()
            assert (info.fired, info.recent[0].slot) == (2, None)

    run(main)


def test_a_triggered_run_counts_for_overlap(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", lasts("g"), every=60)
            handle = await schedule.trigger()
            clock.to(60)
            await clock.until(lambda: _counts(schedule, skipped=1))
            GATES["g"].set()
            await handle.result()

    run(main)


def test_backfill_fills_holes_one_after_the_other(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=60, catch_up=10)
            clock.to(300)
            await clock.until(lambda: _are(engine, slot_ids("s", 300)))
            assert (await schedule.info()).missed == 4
            assert await schedule.backfill(clock.moment(60), clock.moment(300)) == 5
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 120, 180, 240, 300)))
            result = await engine.get(slot_ids("s", 180)[0]).result()
            assert result == f"x s {clock.moment(180).isoformat()}"
            await clock.until(lambda: _buffers(schedule, 0))

    run(main)


def test_backfill_starts_all_where_overlap_is_allowed(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            clock.to(600)
            schedule = await engine.schedules.create("s", lasts("g"), every=60, overlap="allow")
            clock.to(605)
            timing = Timing(every=60.0, start=START)
            assert timing.every is not None
            assert await schedule.backfill(clock.moment(0), clock.moment(605)) == 0  # its slots begin at 660
            clock.to(780)
            await clock.until(lambda: _are(engine, slot_ids("s", 660, 720, 780)))
            GATES["g"].set()

    run(main)


def test_backfill_refuses_what_makes_no_sense(memory: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(memory) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=1, overlap="allow", paused=True)
            clock.to(10_000)
            for start, end in ((0, 20_000), (100, 50)):
                with pytest.raises(UsageError, match="neither in the future"):
                    await schedule.backfill(clock.moment(start), clock.moment(end))
            with pytest.raises(UsageError, match="more than 1000 slots"):
                await schedule.backfill(clock.moment(0), clock.moment(9_000))
            with pytest.raises(UsageError, match="with a time zone"):
                await schedule.backfill(datetime(2020, 1, 1), clock.moment(0))

    run(main)


def test_update(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=60, overlap="allow")
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            await schedule.update(overlap="skip", call=notes("y"), jitter=0, catch_up=99, queue="default")
            info = await schedule.info()
            assert (info.overlap, info.next[0]) == ("skip", clock.moment(120))
            assert info.catch_up == timedelta(seconds=99)
            clock.to(90)
            await schedule.update(every=timedelta(seconds=100))
            assert (await schedule.info()).next[0] == clock.moment(190)
            await schedule.update(every=100)
            assert (await schedule.info()).next[0] == clock.moment(190)
            clock.to(190)
            await clock.until(lambda: _are(engine, slot_ids("s", 60, 190)))
            assert (await engine.get(slot_ids("s", 190)[0]).result()).startswith("y ")
            with pytest.raises(UsageError, match="exactly one of"):
                await schedule.update(every=5, at=clock.moment(1000))

    run(main)


def test_delete_leaves_the_runs(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=60)
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("s", 60)))
            await schedule.delete()
            clock.to(600)
            await asyncio.sleep(0.02)
            assert await ids(engine) == slot_ids("s", 60)
            assert await engine.schedules.list() == []
            for action in (schedule.delete, schedule.info, schedule.pause, schedule.trigger):
                with pytest.raises(UnknownScheduleError, match="perdure schedule ls"):
                    await action()

    run(main)


def test_creating_again(place: Place, clock: Clock) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            create = engine.schedules.create
            await create("s", notes("x"), every=60)
            clock.to(10)
            same = await create("s", notes("x"), every=60)
            assert (await same.info()).next[0] == clock.moment(60)
            for other in ({"call": notes("y"), "every": 60}, {"call": notes("x"), "every": 61}):
                with pytest.raises(ScheduleConflictError, match="defined otherwise"):
                    await create("s", **other)
            with pytest.raises(ScheduleConflictError, match="if_exists"):
                await create("s", notes("x"), every=60, if_exists="fail")
            await create("s", notes("y"), every=90, if_exists="update")
            info = await same.info()
            assert (info.every, info.next[0]) == (timedelta(seconds=90), clock.moment(100))
            assert [item.name for item in await engine.schedules.list()] == ["s"]

    run(main)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, UsageError, "exactly one of"),
        ({"every": 60, "cron": "* * * * *"}, UsageError, "exactly one of"),
        ({"every": 0.01}, ConfigurationError, "at least 0.1"),
        ({"at": datetime(2030, 1, 1)}, UsageError, "with a time zone"),
        ({"every": 60, "overlap": "never"}, UsageError, "must be one of skip, buffer_one"),
        ({"every": 60, "if_exists": "perhaps"}, UsageError, "if_exists"),
        ({"every": 60, "name": ""}, UsageError, "can't name a schedule"),
        ({"every": 60, "name": "a\nb"}, UsageError, "can't name a schedule"),
        ({"every": 60, "call": says}, UsageError, "the call of a workflow"),
    ],
)
def test_what_cannot_be_a_schedule(
    memory: Place, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(error, match=says):
                make = options.get("call", notes)
                await engine.schedules.create(**{"name": "s", **options, "call": make("x")})
            assert await engine.schedules.list() == []

    run(main)


def test_one_schedule_that_cannot_be_fired_holds_up_no_other(
    place: Place, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with clock.engine(place) as engine:
            await engine._store.schedules.create(ScheduleRow("a", 1, START, False, [], b"from the future"))
            await engine.schedules.create("b", notes("x"), every=60)
            clock.to(60)
            await clock.until(lambda: _are(engine, slot_ids("b", 60)))
            await asyncio.sleep(0.05)

    run(main)
    told = [record for record in caplog.records if record.name == "perdure.scheduler"]
    assert len(told) == 1
    assert "written by a newer version" in told[0].getMessage()


def test_real_time(place: Place) -> None:
    """Without any help: slots come by the real clock."""

    async def main() -> None:
        async with place.engine() as engine:
            schedule = await engine.schedules.create("s", notes("x"), every=0.1, jitter=0.05)
            while (await schedule.info()).fired < 3:
                await asyncio.sleep(0.02)
            info = await schedule.info()
            for item in info.recent:
                assert item.slot is not None
                assert item.at >= item.slot
            assert info.created_at <= datetime.now(UTC)

    run(main)
