"""Errands: runs that carry out steps of others. They are stopped by those, and put items into their streams."""

from __future__ import annotations

from perdure.codec.events import decode_event
from perdure.core.events import ChildEnded
from perdure.storage.errands import StopErrand
from perdure.storage.records import RunFilter, RunRow, Stale
from perdure.storage.streams import Settle, StepItems, Supersede
from perdure.testing.conformance.bench import NOW, QUEUE, WORKFLOW, Bench, Check

_STEP = "step/shop.pack"


async def _sent(bench: Bench, *, driven: bool = False) -> tuple[RunRow, RunRow]:
    """A run that is driven, and its errand."""
    worker = await bench.worker(workflows=[WORKFLOW, _STEP])
    parent = await bench.make("parent", owner=worker)
    errand = bench.new("errand", workflow=_STEP, parent_op="s#1", owner=worker if driven else None)
    parent = await bench.put(parent, b"sent", children=[errand])
    return parent, await bench.row("errand")


async def an_errand_that_has_not_begun_ends_with_the_append(bench: Bench) -> None:
    """At once, without a driver, and its parent is told only if it wishes."""
    parent, errand = await _sent(bench)
    await bench.store.send("errand", b"mail", now=NOW)
    parent = await bench.put(parent, b"dropped", effects=[StopErrand("errand", b"end", request=b"ask")])
    after = await bench.row("errand")
    assert (after.status, after.ended_at, after.updated_at) == ("cancelled", NOW + 1, NOW + 1)
    assert (after.seq, after.epoch, after.owner, after.wake_at, after.mail) == (
        2, errand.epoch + 1, None, None, 0,
    )  # fmt: skip
    assert list(await bench.history(errand)) == [b"first", b"end"]
    assert await bench.inbox(errand) == []
    assert await bench.inbox(parent) == []
    assert await bench.claim(parent.owner or 0, workflows=[_STEP], now=NOW + 9) == []


async def its_parent_is_told_if_it_wishes(bench: Bench) -> None:
    parent, _ = await _sent(bench)
    parent = await bench.put(parent, b"x", effects=[StopErrand("errand", b"end", tell=True)])
    (told,) = await bench.inbox(parent)
    event = decode_event(told)
    assert isinstance(event, ChildEnded)
    assert (event.child, event.status) == ("s#1", "cancelled")


async def one_that_has_begun_is_asked_to_end(bench: Bench) -> None:
    """And its parent doesn't hear of its end any more."""
    parent, errand = await _sent(bench, driven=True)
    parent = await bench.put(parent, b"x", effects=[StopErrand("errand", b"end", tell=True, request=b"ask")])
    after = await bench.row("errand")
    assert (after.ended_at, after.epoch, after.owner) == (None, errand.epoch, errand.owner)
    assert await bench.inbox(errand) == [b"ask"]
    await bench.put(after, b"end", status="completed", parent_mail=b"report")
    assert await bench.inbox(parent) == []


async def one_that_has_begun_can_be_left_alone(bench: Bench) -> None:
    parent, errand = await _sent(bench, driven=True)
    parent = await bench.put(parent, b"x", effects=[StopErrand("errand", b"end")])
    assert await bench.row("errand") == errand
    await bench.put(errand, b"end", status="completed", parent_mail=b"report")
    assert await bench.inbox(parent) == [b"report"]


async def one_that_was_driven_before_has_begun(bench: Bench) -> None:
    """Its worker is lost, and nobody knows how far it has come."""
    parent, errand = await _sent(bench, driven=True)
    assert errand.owner is not None
    await bench.store.retire(errand.owner, now=NOW)
    (parent,) = await bench.claim(await bench.worker())
    parent = await bench.put(parent, b"x", effects=[StopErrand("errand", b"end", request=b"ask")])
    assert (await bench.row("errand")).ended_at is None
    assert await bench.inbox(errand) == [b"ask"]


async def stopping_what_has_ended_does_nothing(bench: Bench) -> None:
    parent, errand = await _sent(bench, driven=True)
    ended = await bench.put(errand, b"end", status="completed")
    effects = [StopErrand("errand", b"x", request=b"ask"), StopErrand("nobody", b"x", request=b"ask")]
    await bench.put(parent, b"x", effects=effects)
    assert await bench.row("errand") == ended
    assert list(await bench.history(errand)) == [b"first", b"end"]


async def a_refused_append_stops_nothing(bench: Bench) -> None:
    parent, errand = await _sent(bench)
    answer = await bench.append(parent, b"x", epoch=9, effects=[StopErrand("errand", b"end")])
    assert isinstance(answer, Stale)
    assert await bench.row("errand") == errand


async def _items(bench: Bench) -> list[tuple[int, bytes | None, bool]]:
    page = await bench.store.streams.read("parent", "t", after=0, limit=100)
    assert page is not None
    return [(row.offset, row.data, row.superseded) for row in page.rows]


async def items_of_an_errand_are_its_parent_s(bench: Bench) -> None:
    """In the parent's streams, taken back and settled by the parent's appends; fenced by the errand's epoch."""
    parent, errand = await _sent(bench, driven=True)
    group = StepItems(errand.run, errand.epoch, "s#1", 1, "t", [b"1", b"2"], NOW, parent.run)
    late = StepItems(errand.run, errand.epoch + 1, "s#1", 1, "t", [b"no"], NOW, parent.run)
    assert await bench.store.streams.emit([group, late]) == [True, False]
    assert await _items(bench) == [(1, b"1", False), (2, b"2", False)]
    assert await bench.store.streams.names("errand") == []
    assert await bench.store.streams.unsettled([errand.run, parent.run]) == [(parent.run, "s#1")]
    parent = await bench.put(parent, b"failed", effects=[Supersede("s#1")])
    assert await _items(bench) == [(1, b"1", True), (2, b"2", True), (3, None, False)]
    assert await bench.store.streams.emit([group]) == [True]
    await bench.put(parent, b"done", effects=[Settle("s#1")])
    assert await bench.store.streams.unsettled([parent.run]) == []


async def who_takes_an_errand_over_takes_its_items_back(bench: Bench) -> None:
    parent, errand = await _sent(bench, driven=True)
    group = StepItems(errand.run, errand.epoch, "s#1", 1, "t", [b"1"], NOW, parent.run)
    assert await bench.store.streams.emit([group]) == [True]
    supersede = bench.store.streams.supersede
    assert not await supersede(errand.run, errand.epoch + 1, ["s#1"], now=NOW, of=parent.run)
    assert await supersede(errand.run, errand.epoch, ["s#1"], now=NOW, of=parent.run)
    assert await _items(bench) == [(1, b"1", True), (2, None, False)]


async def nothing_is_put_out_after_the_parent_s_end(bench: Bench) -> None:
    parent, errand = await _sent(bench, driven=True)
    await bench.put(parent, b"end", status="completed")
    group = StepItems(errand.run, errand.epoch, "s#1", 1, "t", [b"1"], NOW, parent.run)
    assert await bench.store.streams.emit([group]) == [False]


async def listings_leave_errands_out_if_asked(bench: Bench) -> None:
    parent, _ = await _sent(bench)
    everything = await bench.store.find(RunFilter())
    assert [row.id for row in everything] == ["errand", "parent"]
    for filter in (RunFilter(errands=False), RunFilter(errands=False, unpatched="change")):
        assert [row.id for row in await bench.store.find(filter)] == ["parent"]
    assert await bench.store.find(RunFilter(errands=False, parent=parent.run)) == []
    assert [row.id for row in await bench.store.find(RunFilter(parent=parent.run))] == ["errand"]


async def an_errand_has_its_parent_s_place_in_a_queue(bench: Bench) -> None:
    """Its key and its priority; other children have their own."""
    worker = await bench.worker(workflows=[WORKFLOW, _STEP])
    parent = await bench.make("parent", owner=worker, key="ann", priority=7)
    children = [bench.new("errand", workflow=_STEP, parent_op="s#1"), bench.new("child", parent_op="c#1")]
    await bench.put(parent, b"sent", children=children)
    for id, key, priority in (("errand", "ann", 7), ("child", None, 0)):
        standing = await bench.store.queues.standing((await bench.row(id)).run)
        assert standing is not None
        assert (standing.key, standing.priority) == (key, priority)


async def missed_workflows_are_told_by_queue_and_beginning(bench: Bench) -> None:
    """Of runs that no worker could begin, and of no others."""
    for id, workflow, queue in (
        ("a", "step/x", "gpu"), ("b", "step/x", "gpu"), ("c", "step/y", QUEUE), ("d", "other", "gpu"),
        ("e", "step/z", "cpu"),
    ):  # fmt: skip
        await bench.make(id, workflow=workflow, queue=queue)
    missed = bench.store.unbegun.missed
    assert await missed(["gpu", QUEUE], "step/", limit=9) == []
    await bench.store.strand(now=NOW + 1)
    assert sorted(await missed(["gpu", QUEUE], "step/", limit=9)) == [(QUEUE, "step/y"), ("gpu", "step/x")]
    assert len(await missed(["gpu", QUEUE], "step/", limit=1)) == 1
    assert await missed([], "step/", limit=9) == []
    worker = await bench.worker(workflows=["step/x"], queues=["gpu"])
    await bench.claim(worker, workflows=["step/x"], queues=["gpu"], now=NOW + 9)
    assert list(await missed(["gpu"], "step/", limit=9)) == []


CHECKS: tuple[Check, ...] = (
    an_errand_that_has_not_begun_ends_with_the_append,
    its_parent_is_told_if_it_wishes,
    one_that_has_begun_is_asked_to_end,
    one_that_has_begun_can_be_left_alone,
    one_that_was_driven_before_has_begun,
    stopping_what_has_ended_does_nothing,
    a_refused_append_stops_nothing,
    items_of_an_errand_are_its_parent_s,
    who_takes_an_errand_over_takes_its_items_back,
    nothing_is_put_out_after_the_parent_s_end,
    listings_leave_errands_out_if_asked,
    an_errand_has_its_parent_s_place_in_a_queue,
    missed_workflows_are_told_by_queue_and_beginning,
)
