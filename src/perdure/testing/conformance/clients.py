"""Creating runs, and looking at them from outside."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.core.events import SEMANTICS_VERSION
from perdure.errors import StoreError
from perdure.storage.records import ParentPolicy, RunFilter
from perdure.testing.conformance.bench import NOW, QUEUE, WORKFLOW, Bench, Check


async def a_new_run_is_queued_and_due(bench: Bench) -> None:
    """Nobody owns it; its first event is seq 1."""
    (created,) = await bench.store.create([bench.new("r", wake_at=NOW + 60)])
    row = created.row
    assert created.new
    assert (row.id, row.workflow, row.queue, row.status) == ("r", WORKFLOW, QUEUE, "queued")
    assert (row.seq, row.epoch, row.owner, row.mail, row.recoveries) == (1, 0, None, 0, 0)
    assert (row.created_at, row.updated_at, row.started_at, row.ended_at) == (NOW, NOW, None, None)
    assert (row.wake_at, row.reason, row.block_code) == (NOW + 60, None, None)
    assert (row.parent, row.parent_id, row.parent_op) == (None, None, None)
    assert row.fingerprint == b"\x00fingerprint\xff"
    assert row.on_parent_close == ParentPolicy.CANCEL
    assert row.semantics == SEMANTICS_VERSION
    assert await bench.store.events(row.run) == [(1, b"first")]
    assert await bench.row("r") == row


async def a_run_can_be_owned_from_the_start(bench: Bench) -> None:
    """Its owner gets epoch 1, and started_at is created_at."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker, wake_at=NOW)
    assert (row.owner, row.epoch, row.started_at, row.status) == (worker, 1, NOW, "running")
    assert await bench.claim(await bench.worker()) == []
    assert await bench.store.owned(worker) == [(row.run, 1)]


async def a_worker_that_is_gone_owns_nothing(bench: Bench) -> None:
    """A run created for an owner that isn't registered is left to whoever claims it."""
    gone = await bench.worker()
    await bench.store.retire(gone, now=NOW)
    row = await bench.make("r", owner=gone)
    assert (row.owner, row.epoch, row.status, row.wake_at) == (None, 0, "queued", NOW)


async def creating_twice_changes_nothing(bench: Bench) -> None:
    """The row of a run that exists is returned as it is now, whatever the repeat says."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, b"more")
    (again,) = await bench.store.create([bench.new("r", first_event=b"other", queue="elsewhere")])
    assert not again.new
    assert again.row == row
    assert await bench.history(row) == [b"first", b"more"] or await bench.history(row) == (b"first", b"more")


async def many_runs_are_created_in_order(bench: Bench) -> None:
    """Also if some exist, or one is named twice."""
    await bench.make("b")
    created = await bench.store.create([bench.new(name) for name in ("a", "b", "c", "a")])
    assert [one.row.id for one in created] == ["a", "b", "c", "a"]
    assert [one.new for one in created] == [True, False, True, False]
    assert created[0].row.run < created[2].row.run
    assert await bench.store.create([]) == []


async def racing_creators_agree(bench: Bench) -> None:
    """Of many who create one name at once, one is told that it is new."""
    other = await bench.another()
    answers = await asyncio.gather(
        *(store.create([bench.new("r")]) for store in (bench.store, other) for _ in range(10))
    )
    assert sum(created.new for (created,) in answers) == 1
    assert len({created.row.run for (created,) in answers}) == 1


async def get_answers_in_order(bench: Bench) -> None:
    """None for unknown ids; ids are compared exactly."""
    await bench.store.create([bench.new(name) for name in ("a", "B", "käse 🧀")])
    rows = await bench.store.get(["käse 🧀", "nobody", "a", "b", "a", "B"])
    assert [row and row.id for row in rows] == ["käse 🧀", None, "a", None, "a", "B"]
    assert await bench.store.get([]) == []


async def find_lists_newest_first(bench: Bench) -> None:
    """At most `limit`, and older than `before`, so that one can page."""
    await bench.store.create([bench.new(f"r{n}", created_at=NOW + n) for n in range(10)])
    page = await bench.store.find(RunFilter(limit=4))
    assert [row.id for row in page] == ["r9", "r8", "r7", "r6"]
    page = await bench.store.find(RunFilter(limit=4, before=page[-1].run))
    assert [row.id for row in page] == ["r5", "r4", "r3", "r2"]
    page = await bench.store.find(RunFilter(limit=4, before=page[-1].run))
    assert [row.id for row in page] == ["r1", "r0"]


async def find_filters(bench: Bench) -> None:
    """By status, workflow, parent, part of the name and age, and by all of them together."""
    worker = await bench.worker()
    parent = await bench.make("parent-1", owner=worker)
    await bench.store.create(
        [
            bench.new("order-1", workflow="shop.orders.handle", created_at=NOW),
            bench.new("order-2", workflow="shop.handle", created_at=NOW + 1, parent=parent.run),
            bench.new("refund%_1", workflow="handle", created_at=NOW + 2),
            bench.new("other", workflow="shop.mishandle", created_at=NOW + 3, parent=parent.run),
        ]
    )

    async def found(**fields: Any) -> list[str]:
        return [row.id for row in await bench.store.find(RunFilter(**fields))]

    assert await found(statuses=["running"]) == ["parent-1"]
    assert await found(statuses=["running", "queued"], text="order") == ["order-2", "order-1"]
    assert await found(statuses=["failed"]) == []
    assert await found(workflow="handle", since=NOW) == ["refund%_1", "order-2", "order-1", "parent-1"]
    assert await found(workflow="shop.handle") == ["order-2"]
    assert await found(workflow="orders.handle") == []
    assert await found(parent=parent.run) == ["other", "order-2"]
    assert await found(parent=parent.run, workflow="handle") == ["order-2"]
    assert await found(parent=parent.run, limit=1) == ["other"]
    assert await found(text="%_") == ["refund%_1"]
    assert await found(text="ORDER") == []
    assert await found(since=NOW + 2) == ["other", "refund%_1"]


async def parents_are_named(bench: Bench) -> None:
    """A child's row has its parent's key and name, its op, and what happens when the parent ends."""
    parent = await bench.make("parent")
    child = await bench.make(
        "child", parent=parent.run, parent_op="pay#1", on_parent_close=ParentPolicy.ABANDON
    )
    assert (child.parent, child.parent_id, child.parent_op) == (parent.run, "parent", "pay#1")
    assert child.on_parent_close == ParentPolicy.ABANDON
    assert await bench.store.find(RunFilter(parent=parent.run)) == [child]


async def events_are_read_in_pages(bench: Bench) -> None:
    """(seq, event) with seq > after, in order, at most `limit`."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.put(row, *(bytes([n]) * n for n in range(2, 8)))
    everything = [(1, b"first"), *((n, bytes([n]) * n) for n in range(2, 8))]
    assert await bench.store.events(row.run) == everything
    assert await bench.store.events(row.run, after=3) == everything[3:]
    assert await bench.store.events(row.run, after=3, limit=2) == everything[3:5]
    assert await bench.store.events(row.run, after=7) == []
    assert await bench.store.events(999_999) == []


async def last_event_is_the_newest(bench: Bench) -> None:
    """Of each run, in the order asked."""
    worker = await bench.worker()
    first, second = await bench.make("a", owner=worker), await bench.make("b", first_event=b"only")
    await bench.put(first, b"x", b"", b"\x00newest")
    assert await bench.store.last_event([second.run, first.run, second.run]) == [
        b"only",
        b"\x00newest",
        b"only",
    ]
    assert await bench.store.last_event([]) == []


async def a_closed_store_says_so(bench: Bench) -> None:
    """What was submitted is finished, closing twice is fine, and using it afterwards is a clear error."""
    store = await bench.another()
    creating = asyncio.ensure_future(store.create([bench.new("r")]))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert (await creating)[0].new
    assert (await bench.row("r")).seq == 1
    message = ""
    try:
        await store.get(["r"])
    except StoreError as error:
        message = str(error)
    assert "clos" in message


CHECKS: tuple[Check, ...] = (
    a_new_run_is_queued_and_due,
    a_run_can_be_owned_from_the_start,
    a_worker_that_is_gone_owns_nothing,
    creating_twice_changes_nothing,
    many_runs_are_created_in_order,
    racing_creators_agree,
    get_answers_in_order,
    find_lists_newest_first,
    find_filters,
    parents_are_named,
    events_are_read_in_pages,
    last_event_is_the_newest,
    a_closed_store_says_so,
)
