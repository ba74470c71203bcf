"""Runs of which there may be only one at a time, and starts that are put together."""

from __future__ import annotations

import asyncio

from perdure.core.queues import QueueSettings
from perdure.storage.records import Delivery, NewMail, NewRun, Successor
from perdure.storage.schedules import ScheduleRow
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check


async def one_live_run_has_a_dedup(bench: Bench) -> None:
    """A start with it means that run, whatever its own id and input; when that has ended, another may be made."""
    worker = await bench.worker()
    await bench.make("a", dedup="d", owner=worker)
    (met,) = await bench.store.create([bench.new("b", dedup="d", fingerprint=b"other")])
    assert (met.new, met.row.id, met.dedup) == (False, "a", True)
    (other,) = await bench.store.create([bench.new("c", dedup="e")])
    assert (other.new, other.dedup) == (True, True)
    assert await bench.store.get(["b"]) == [None]
    await bench.put(await bench.row("a"), b"end", status="completed")
    (made,) = await bench.store.create([bench.new("b", dedup="d")])
    assert made.new
    assert await bench.store.terminate("b", b"event", now=NOW) == Delivery.DELIVERED
    (made,) = await bench.store.create([bench.new("f", dedup="d")])
    assert made.new


async def an_id_comes_before_a_dedup(bench: Bench) -> None:
    """A start that is repeated means its run, also when that has ended."""
    worker = await bench.worker()
    row = await bench.make("a", dedup="d", owner=worker)
    await bench.put(row, b"end", status="completed")
    await bench.make("b", dedup="d")
    (met,) = await bench.store.create([bench.new("a", dedup="d")])
    assert (met.new, met.row.id, met.row.status, met.dedup) == (False, "a", "completed", True)


async def in_one_call_the_first_has_it(bench: Bench) -> None:
    created = await bench.store.create([bench.new(id, dedup="d") for id in "ab"] + [bench.new("c")])
    assert [(made.new, made.row.id) for made in created] == [(True, "a"), (False, "a"), (True, "c")]


async def racing_starts_make_one(bench: Bench) -> None:
    """Whichever stores they use."""
    other = await bench.another()
    starts = [
        store.create([bench.new(f"r{n}", dedup="d")]) for n, store in enumerate([bench.store, other] * 8)
    ]
    created = [made for (made,) in await asyncio.gather(*starts)]
    assert sum(made.new for made in created) == 1
    assert len({made.row.id for made in created}) == 1


async def a_schedule_leaves_out_what_may_not_be(bench: Bench) -> None:
    """Its other runs are made, and it goes on to its next slot."""
    row = ScheduleRow("s", 1, NOW, waiting=False, running=(), data=b"")
    assert await bench.store.schedules.create(row) is None
    await bench.make("only", dedup="d")
    runs = [bench.new("slot-1", dedup="d"), bench.new("slot-2"), bench.new("slot-3", dedup="e")]
    assert await bench.store.schedules.change(row, runs=runs, now=NOW)
    there = await bench.store.get(["slot-1", "slot-2", "slot-3"])
    assert [found is not None for found in there] == [False, True, True]
    (met,) = await bench.store.create([bench.new("another", dedup="e")])
    assert (met.new, met.row.id) == (False, "slot-3")


async def a_dedup_goes_over(bench: Bench) -> None:
    """To the next generation of its run; what is refused to begin again leaves things as they are."""
    worker = await bench.worker()
    await bench.make("a", dedup="d", owner=worker)
    following = bench.new("a", owner=worker, generation=2)
    await bench.put(await bench.row("a"), b"end", status="continued", successor=Successor(following))
    (met,) = await bench.store.create([bench.new("b", dedup="d")])
    assert (met.new, met.row.id, met.row.generation) == (False, "a", 2)
    ended = await bench.put(await bench.row("a"), b"end", status="failed")
    await bench.make("b", dedup="d")
    (refused,) = await bench.store.create([bench.new("a", follows=ended.run, generation=3)])
    assert (refused.new, refused.row.id, refused.dedup) == (False, "b", True)
    assert (await bench.row("a")).generation == 2


async def a_child_may_be_refused(bench: Bench) -> None:
    """Then it has the key 0."""
    worker = await bench.worker()
    await bench.make("only", dedup="d")
    parent = await bench.make("parent", owner=worker)
    child = bench.new("parent/child", dedup="d", parent_op="op")
    append = bench.change(parent, b"x", children=[child])
    (answer,) = await bench.store.append([append])
    assert answer.children == ((0, 0),)  # type: ignore[union-attr]
    (again,) = await bench.store.append([append])
    assert again == answer
    assert await bench.store.get(["parent/child"]) == [None]


async def mail_goes_to_the_one_that_is_met(bench: Bench) -> None:
    await bench.make("a", dedup="d")
    mail = [NewMail(b"hello")]
    (met,) = await bench.store.create([bench.new("b", dedup="d", mail=mail, fingerprint=b"other")])
    assert met.delivery is Delivery.DELIVERED
    assert await bench.inbox(await bench.row("a")) == [b"hello"]


def _late(bench: Bench, id: str, at: float, **fields: object) -> NewRun:
    """A start that is put off by five seconds."""
    return bench.new(
        id, dedup="d", debounce=True, created_at=at, wake_at=at + 5, first_event=id.encode(), **fields
    )


async def debounced_starts_become_one(bench: Bench) -> None:
    """The newest counts, and puts the run off, no longer than is said; once it has begun, the next makes another."""
    worker = await bench.worker()
    (made,) = await bench.store.create([_late(bench, "a", NOW)])
    assert made.new
    (met,) = await bench.store.create([_late(bench, "b", NOW + 3, fingerprint=b"b", key="k", priority=2)])
    assert (met.new, met.row.id, met.row.wake_at, met.dedup) == (False, "a", NOW + 8, True)
    assert list(await bench.history(met.row)) == [b"b"]
    standing = await bench.store.queues.standing(met.row.run)
    assert standing is not None
    assert (standing.key, standing.priority) == ("k", 2)
    (met,) = await bench.store.create([_late(bench, "c", NOW + 7, at_most=9.0)])
    assert met.row.wake_at == NOW + 9
    (met,) = await bench.store.create([_late(bench, "a", NOW + 8)])  # its own id: a repeat
    assert (met.new, met.row.wake_at) == (False, NOW + 9)
    assert await bench.claim(worker, now=NOW + 8.9) == []
    (row,) = await bench.claim(worker, now=NOW + 9)
    assert list(await bench.history(row)) == [b"c"]
    (made,) = await bench.store.create([_late(bench, "e", NOW + 10)])
    assert (made.new, made.row.id) == (True, "e")
    (met,) = await bench.store.create([_late(bench, "f", NOW + 11)])
    assert (met.new, met.row.id) == (False, "e")


async def only_the_same_workflow_is_replaced(bench: Bench) -> None:
    await bench.store.create([_late(bench, "a", NOW)])
    (met,) = await bench.store.create([_late(bench, "b", NOW + 1, workflow="other")])
    assert (met.new, met.row.id, met.row.workflow, met.row.wake_at) == (False, "a", WORKFLOW, NOW + 5)
    assert list(await bench.history(met.row)) == [b"a"]


async def a_line_is_left_by_debouncing(bench: Bench) -> None:
    """Who stands in line and is put off comes back when its time has come."""
    await bench.store.queues.define("q", QueueSettings(concurrency=1, fairness="key"), now=NOW)
    worker = await bench.worker(queues=["q"])
    await bench.store.create([_late(bench, "a", NOW, queue="q")])
    await bench.make("other", queue="q")
    given = {"queues": ["q"]}
    assert [row.id for row in await bench.claim(worker, now=NOW + 6, **given)] == ["other"]
    await bench.store.create([_late(bench, "b", NOW + 7, queue="q")])
    await bench.put(await bench.row("other"), b"end", status="completed")
    assert await bench.claim(worker, now=NOW + 8, **given) == []
    assert [row.id for row in await bench.claim(worker, now=NOW + 12, **given)] == ["a"]


async def racing_debounces_lose_nothing(bench: Bench) -> None:
    """A run that begins has the input that came before; what came after is another's."""
    worker = await bench.worker()
    other = await bench.another()
    for n in range(10):
        at = NOW + 100 * n
        await bench.store.create([_late(bench, f"{n}-a", at)])
        claim = other.claim(worker, workflows=[WORKFLOW], queues=["default"], now=at + 5, limit=9)
        claimed, (met,) = await asyncio.gather(claim, bench.store.create([_late(bench, f"{n}-b", at + 5)]))
        begun = [row.id for row in claimed.rows]
        if met.new:
            assert begun == [f"{n}-a"]
            assert list(await bench.history(claimed.rows[0])) == [f"{n}-a".encode()]
        else:
            assert begun in ([], [f"{n}-a"])
            assert list(await bench.history(met.row)) == [f"{n}-b".encode()]
        for row in await bench.claim(worker, now=at + 50):
            await bench.put(row, b"end", status="completed")
        for row in claimed.rows:
            await bench.put(row, b"end", status="completed")


CHECKS: tuple[Check, ...] = (
    one_live_run_has_a_dedup,
    an_id_comes_before_a_dedup,
    in_one_call_the_first_has_it,
    racing_starts_make_one,
    a_schedule_leaves_out_what_may_not_be,
    a_dedup_goes_over,
    a_child_may_be_refused,
    mail_goes_to_the_one_that_is_met,
    debounced_starts_become_one,
    only_the_same_workflow_is_replaced,
    a_line_is_left_by_debouncing,
    racing_debounces_lose_nothing,
)
