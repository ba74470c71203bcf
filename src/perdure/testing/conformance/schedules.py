"""Schedules: their rows, the compare-and-set by which they fire, and who is due."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure.storage.schedules import ScheduleRow
from perdure.testing.conformance.bench import NOW, Bench, Check


def schedule(name: str = "s", **fields: Any) -> ScheduleRow:
    """A row that is due now."""
    given: dict[str, Any] = {
        "version": 7,
        "due_at": NOW,
        "waiting": False,
        "running": [],
        "data": b'{"a": 1}',
    }
    return ScheduleRow(name=name, **{**given, **fields})


async def a_schedule_is_kept_as_it_was_given(bench: Bench) -> None:
    row = schedule(due_at=None, waiting=True, running=["a", "b"], data=b"\x00\xff")
    assert await bench.store.schedules.create(row) is None
    assert await bench.store.schedules.get("s") == row
    other = await bench.another()
    assert await other.schedules.all() == [row]
    assert await other.schedules.get("t") is None


async def a_name_that_is_taken_keeps_its_schedule(bench: Bench) -> None:
    await bench.store.schedules.create(schedule())
    found = await bench.store.schedules.create(schedule(version=9, data=b"other"))
    assert found == schedule()
    assert await bench.store.schedules.get("s") == schedule()


async def schedules_are_listed_by_name(bench: Bench) -> None:
    for name in ("b", "c", "a"):
        await bench.store.schedules.create(schedule(name))
    assert [row.name for row in await bench.store.schedules.all()] == ["a", "b", "c"]


async def a_change_counts_the_version_up(bench: Bench) -> None:
    await bench.store.schedules.create(schedule())
    assert await bench.store.schedules.change(schedule(due_at=NOW + 5, data=b"new"), now=NOW)
    assert await bench.store.schedules.get("s") == schedule(version=8, due_at=NOW + 5, data=b"new")


async def a_change_of_an_old_version_does_nothing_at_all(bench: Bench) -> None:
    receiver = await bench.make("receiver")
    await bench.store.schedules.create(schedule())
    assert await bench.store.schedules.change(schedule(data=b"first"), now=NOW)
    late = await bench.store.schedules.change(
        schedule(data=b"second"), runs=[bench.new("r")], mail=[("receiver", b"mail")], now=NOW
    )
    assert not late
    assert (await bench.store.schedules.get("s")) == schedule(version=8, data=b"first")
    assert await bench.store.get(["r"]) == [None]
    assert await bench.inbox(receiver) == []
    assert not await bench.store.schedules.change(schedule("unknown"), now=NOW)


async def runs_and_mail_come_with_the_change(bench: Bench) -> None:
    receiver = await bench.make("receiver", wake_at=NOW + 100)
    taken = await bench.make("taken")
    await bench.store.schedules.create(schedule())
    done = await bench.store.schedules.change(
        schedule(),
        runs=[bench.new("r"), bench.new("taken", first_event=b"another")],
        mail=[("receiver", b"mail"), ("unknown", b"mail")],
        now=NOW,
    )
    assert done
    assert (await bench.row("r")).status == "queued"
    assert list(await bench.history(taken)) == [b"first"]
    assert await bench.inbox(receiver) == [b"mail"]
    assert (await bench.row("receiver")).wake_at == NOW


async def ended_runs_get_no_mail(bench: Bench) -> None:
    ended = await bench.make("ended")
    await bench.store.terminate("ended", b"over", now=NOW)
    await bench.store.schedules.create(schedule())
    assert await bench.store.schedules.change(schedule(), mail=[("ended", b"mail")], now=NOW)
    assert await bench.inbox(ended) == []


async def of_changes_at_the_same_time_one_passes(bench: Bench) -> None:
    await bench.store.schedules.create(schedule())
    stores = [bench.store, await bench.another(), await bench.another()]
    passed = await asyncio.gather(
        *(
            store.schedules.change(schedule(), runs=[bench.new(f"r-{number}")], now=NOW)
            for number, store in enumerate(stores)
        )
    )
    assert sorted(passed) == [False, False, True]
    made = await bench.store.get(["r-0", "r-1", "r-2"])
    assert [row is not None for row in made] == passed


async def a_deleted_schedule_is_gone(bench: Bench) -> None:
    await bench.store.schedules.create(schedule())
    assert await bench.store.schedules.delete("s")
    assert not await bench.store.schedules.delete("s")
    assert await bench.store.schedules.get("s") is None
    assert not await bench.store.schedules.change(schedule(), now=NOW)


async def what_is_due_comes_first_due_first(bench: Bench) -> None:
    for name, due_at in (
        ("later", NOW + 9),
        ("now", NOW),
        ("before", NOW - 5),
        ("never", None),
        ("soon", NOW + 2),
    ):
        await bench.store.schedules.create(schedule(name, due_at=due_at))
    due = await bench.store.schedules.due(now=NOW, limit=10)
    assert ([row.name for row in due.rows], due.next_at) == (["before", "now"], NOW + 2)
    assert [row.name for row in (await bench.store.schedules.due(now=NOW, limit=1)).rows] == ["before"]
    assert (await bench.store.schedules.due(now=NOW + 10, limit=10)).next_at is None


async def a_waiting_schedule_is_due_when_its_runs_have_ended(bench: Bench) -> None:
    await bench.make("a")
    await bench.make("b")
    row = schedule(due_at=NOW + 60, waiting=True, running=["a", "b", "unknown"])
    await bench.store.schedules.create(row)
    await bench.store.schedules.create(schedule("not waiting", due_at=None, running=["unknown"]))
    assert (await bench.store.schedules.due(now=NOW, limit=10)).rows == []
    await bench.store.terminate("a", b"over", now=NOW)
    assert (await bench.store.schedules.due(now=NOW, limit=10)).rows == []
    await bench.store.terminate("b", b"over", now=NOW)
    assert (await bench.store.schedules.due(now=NOW, limit=10)).rows == [row]
    both = msgspec.structs.replace(row, due_at=NOW)
    assert await bench.store.schedules.change(both, now=NOW)
    assert len((await bench.store.schedules.due(now=NOW, limit=10)).rows) == 1


async def others_hear_of_changes_to_schedules(bench: Bench) -> None:
    heard = asyncio.Event()
    await bench.another(lambda _: heard.set())
    for change in (
        lambda: bench.store.schedules.create(schedule()),
        lambda: bench.store.schedules.change(schedule(), now=NOW),
        lambda: bench.store.schedules.delete("s"),
    ):
        heard.clear()
        assert await change() is not False
        async with asyncio.timeout(10):
            await heard.wait()


CHECKS: tuple[Check, ...] = (
    a_schedule_is_kept_as_it_was_given,
    a_name_that_is_taken_keeps_its_schedule,
    schedules_are_listed_by_name,
    a_change_counts_the_version_up,
    a_change_of_an_old_version_does_nothing_at_all,
    runs_and_mail_come_with_the_change,
    ended_runs_get_no_mail,
    of_changes_at_the_same_time_one_passes,
    a_deleted_schedule_is_gone,
    what_is_due_comes_first_due_first,
    a_waiting_schedule_is_due_when_its_runs_have_ended,
    others_hear_of_changes_to_schedules,
)
