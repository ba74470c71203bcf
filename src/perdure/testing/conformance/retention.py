"""Removing runs that have ended."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from perdure.core.accounts import AccountKey, Terms
from perdure.core.attributes import attributes_of
from perdure.core.budgets import Want
from perdure.errors import UnknownRunError
from perdure.storage.attributes import MarkPatched, SetAttributes
from perdure.storage.budgets import Ask
from perdure.storage.callbacks import CallbackVerdict, OpenCallback
from perdure.storage.moving import Mark
from perdure.storage.records import Delivery, MailKind, ParentPolicy, RunFilter, RunRow, Successor
from perdure.storage.retention import FAMILY, FORKED, HELD, MOVING, EndedRun, Removal, Sweeping, Swept
from perdure.storage.streams import Emit
from perdure.testing.conformance.bench import NOW, Bench, Check

LATER = NOW + 1000


async def finish(bench: Bench, id: str, **fields: Any) -> RunRow:
    """A run that has ended."""
    worker = await bench.worker()
    row = await bench.make(id, owner=worker, **fields)
    return await bench.put(row, b"end", status="completed")


async def remove(bench: Bench, *rows: RunRow, archive: str = "") -> list[Removal]:
    wanted = [(row.run, row.seq) for row in rows]
    return await bench.store.retention.remove(wanted, archive=archive, now=LATER, rows=100)


async def sweep_all(bench: Bench, rows: int = 1000, bytes: int = 1_000_000) -> list[Swept]:
    """Every step until there is nothing left."""
    steps = [await bench.store.retention.sweep(rows=rows, bytes=bytes)]
    while not steps[-1].done:
        steps.append(await bench.store.retention.sweep(rows=rows, bytes=bytes))
        assert len(steps) < 1000
    return steps


async def names(bench: Bench, **fields: Any) -> list[str]:
    given: dict[str, Any] = {"before": LATER, "limit": 100}
    return [run.id for run in await bench.store.retention.ended(**{**given, **fields})]


async def ended_runs_come_in_order_of_their_ends(bench: Bench) -> None:
    """Those that ended before a moment, page by page; live ones don't."""
    worker = await bench.worker()
    for number, id in enumerate(("c", "a", "b")):
        row = await bench.make(id, owner=worker)
        await bench.put(row, b"end", status="failed", now=NOW + number)
    await bench.make("live", owner=worker)
    assert await names(bench) == ["c", "a", "b"]
    assert await names(bench, before=NOW + 1) == ["c"]
    first, second = await bench.store.retention.ended(before=LATER, limit=2)
    row = await bench.row("c")
    assert first == EndedRun(row.run, "c", row.workflow, "failed", NOW, 2)
    assert await names(bench, after=(second.ended_at, second.run)) == ["b"]


async def a_listed_run_tells_of_its_parent(bench: Bench) -> None:
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    parent = await bench.put(parent, b"x", children=[bench.new("child", owner=worker, parent_op="c#1")])
    await bench.put(await bench.row("child"), b"end", status="completed")
    (child,) = await bench.store.retention.ended(before=LATER, limit=9)
    assert (child.id, child.parent) == ("child", "live")
    await bench.store.send("parent", b"mail", now=NOW)
    (child,) = await bench.store.retention.ended(before=LATER, limit=9)
    assert child.parent == "mail"
    await bench.put(await bench.row("parent"), b"end", status="completed")
    told = {run.id: run.parent for run in await bench.store.retention.ended(before=LATER, limit=9)}
    assert told == {"parent": None, "child": "ended"}


async def a_removed_run_is_gone_and_its_id_free(bench: Bench) -> None:
    """At once, whatever remainders there are; and what comes under the id then has nothing of it."""
    await finish(bench, "stays")
    row = await finish(bench, "a", attributes=attributes_of({"n": 1}))
    assert await remove(bench, row) == [Removal.GONE]
    assert await bench.store.get(["a"]) == [None]
    assert await bench.store.generation("a", 1) is None
    assert [each.id for each in await bench.store.find(RunFilter())] == ["stays"]
    assert (await bench.store.send("a", b"x", now=LATER)) is Delivery.UNKNOWN_RUN
    again = await bench.make("a")
    assert again.run != row.run
    assert list(await bench.history(again)) == [b"first"]
    await sweep_all(bench)
    assert list(await bench.history(again)) == [b"first"]
    assert list(await bench.history(await bench.row("stays"))) == [b"first", b"end"]


async def keys_are_never_given_again(bench: Bench) -> None:
    """Not even that of the newest run: what remains of it would be another's."""
    row = await finish(bench, "a")
    await remove(bench, row)
    again = await bench.make("b")
    assert again.run != row.run
    assert list(await bench.history(again)) == [b"first"]


async def only_what_is_as_it_was_is_removed(bench: Bench) -> None:
    """Not live runs, not those that have gone on since they were seen, not twice."""
    worker = await bench.worker()
    live = await bench.make("live", owner=worker)
    done = await finish(bench, "done")
    older = msgspec.structs.replace(done, seq=done.seq - 1)
    assert await remove(bench, live, older) == [Removal.STAYS, Removal.STAYS]
    again = await finish(bench, "again")
    follower = bench.new("again", generation=2, follows=again.run, created_at=NOW + 5)
    await bench.store.create([follower])
    assert await remove(bench, again) == [Removal.STAYS]
    assert await remove(bench, done) == [Removal.GONE]
    assert await remove(bench, done) == [Removal.STAYS]
    assert {row.id for row in await bench.store.find(RunFilter())} == {"live", "again"}


async def a_removed_run_cant_be_followed(bench: Bench) -> None:
    """Whoever was about to retry it is told so, and nothing is made."""
    row = await finish(bench, "a")
    await remove(bench, row)
    follower = bench.new("a", generation=2, follows=row.run, created_at=NOW + 5)
    told = ""
    try:
        await bench.store.create([follower])
    except UnknownRunError as error:
        told = error.run_id
    assert told == "a"
    assert await bench.store.get(["a"]) == [None]


async def all_generations_go(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    for number in (2, 3):
        new = bench.new("a", owner=worker, generation=number, created_at=NOW + number)
        row = await bench.put(row, b"end", status="continued", successor=Successor(new))
        row = await bench.row("a")
    row = await bench.put(row, b"end", status="completed")
    assert row.generation == 3
    listed = await bench.store.retention.ended(before=LATER, limit=9)
    assert [run.newest for run in sorted(listed, key=lambda run: run.run)] == [False, False, True]
    assert await remove(bench, row) == [Removal.GONE]
    for number in (1, 2, 3):
        assert await bench.store.generation("a", number) is None
    await sweep_all(bench)
    assert (await bench.store.moving.stamps()) == []


async def everything_of_a_run_goes(bench: Bench) -> None:
    """Messages, keys, callbacks, streams, updates, attributes, patches: nobody finds any of it any more."""
    worker = await bench.worker()
    row = await bench.make("a", owner=worker, attributes=attributes_of({"tag": "x"}))
    await bench.store.send("a", b"undelivered", now=NOW, kind=MailKind.MESSAGE, key="k")
    await bench.store.updates.request("a", "u", b"update", call=b"call", now=NOW)
    effects = (
        Emit("out", b"item"),
        MarkPatched("change"),
        OpenCallback(b"hash", "callback:1", NOW),
        SetAttributes(attributes_of({"other": 7})),
    )
    row = await bench.put(row, b"x", effects=effects)
    row = await bench.put(row, b"end", status="completed")
    assert await remove(bench, row) == [Removal.GONE]
    await sweep_all(bench)
    again = await bench.make("a")
    (package,) = await bench.store.moving.read(["a"])
    assert package is not None
    assert package.counts() == {"generation": 1, "event": 1}
    assert await bench.inbox(again) == []
    ended = await bench.store.callbacks.end(b"hash", result=b"1", now=LATER)
    assert ended.verdict is CallbackVerdict.UNKNOWN
    page = await bench.store.streams.read("a", "out", after=0, limit=9)
    assert page is None or not page.rows
    assert (await bench.store.send("a", b"new", now=LATER, key="k")) is Delivery.DELIVERED


async def a_step_removes_no_more_than_it_may(bench: Bench) -> None:
    """Rows and bytes are bounded, so that whoever writes at the same time waits for a short while only."""
    worker = await bench.worker()
    row = await bench.make("long", owner=worker)
    row = await bench.put(row, *[b"e" * 100] * 57)
    row = await bench.put(row, b"end", status="completed")
    await remove(bench, row)
    steps = await sweep_all(bench, rows=10)
    assert sum(step.rows for step in steps) >= 59 or bench.store.__class__.__name__ == "MemoryStore"
    assert all(step.rows <= 11 for step in steps)
    heavy = await bench.make("heavy", owner=worker)
    heavy = await bench.put(heavy, *[b"e" * 1000] * 20)
    heavy = await bench.put(heavy, b"end", status="completed")
    await remove(bench, heavy)
    steps = await sweep_all(bench, bytes=3500)
    assert all(step.bytes <= 3500 for step in steps)


async def what_it_started_goes_after_it(bench: Bench) -> None:
    """Children become orphans when their parent is removed; they are told with the archive of their parent."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    children = [bench.new(id, owner=worker, parent_op=id) for id in ("one", "two")]
    parent = await bench.put(parent, b"x", children=children)
    for id in ("one", "two"):
        await bench.put(await bench.row(id), b"end", status="completed")
    parent = await bench.put(await bench.row("parent"), b"end", status="completed")
    assert await bench.store.retention.orphans(limit=9) == []
    assert await remove(bench, parent, archive="file:///there") == [Removal.GONE]
    await sweep_all(bench)
    orphans = await bench.store.retention.orphans(limit=9)
    assert sorted((one.run.id, one.archive) for one in orphans) == [
        ("one", "file:///there"),
        ("two", "file:///there"),
    ]
    wanted = [(one.run.run, one.run.seq) for one in orphans]
    assert await bench.store.retention.remove(wanted, now=LATER, rows=100) == [Removal.GONE] * 2
    await sweep_all(bench)
    assert await bench.store.retention.orphans(limit=9) == []
    assert await bench.store.moving.stamps() == []


async def a_run_stays_while_what_it_started_goes_on(bench: Bench) -> None:
    """Also what that one has started."""
    worker = await bench.worker()
    top = await bench.make("top", owner=worker)
    child = bench.new("child", owner=worker, parent_op="c", on_parent_close=ParentPolicy.ABANDON)
    top = await bench.put(top, b"x", children=[child])
    row = await bench.row("child")
    deep = bench.new("deep", owner=worker, parent_op="d", on_parent_close=ParentPolicy.ABANDON)
    await bench.put(row, b"x", children=[deep])
    top = await bench.put(await bench.row("top"), b"end", status="completed")
    child_row = await bench.put(await bench.row("child"), b"end", status="completed")
    found = await bench.store.retention.needed([top.run, child_row.run])
    assert found == {top.run: FAMILY, child_row.run: FAMILY}
    await bench.put(await bench.row("deep"), b"end", status="completed")
    assert await bench.store.retention.needed([top.run, child_row.run]) == {}


async def a_donor_stays_while_a_fork_lives(bench: Bench) -> None:
    donor = await finish(bench, "donor")
    worker = await bench.worker()
    fork = await bench.make("fork", owner=worker, donor="donor")
    assert await bench.store.retention.needed([donor.run]) == {donor.run: FORKED}
    await bench.put(fork, b"end", status="completed")
    assert await bench.store.retention.needed([donor.run]) == {}


async def a_run_stays_while_money_is_held_for_it(bench: Bench) -> None:
    """And when it goes, its own account goes, and the others stay as they are."""
    worker = await bench.worker()
    await bench.store.budgets.define([Terms("own", cost=100, owner="run"), Terms("all", cost=100)], now=NOW)
    row = await bench.make("a", owner=worker)
    await bench.store.budgets.reserve([Ask(row.run, 1, Want("s", cost=5), row.epoch)], now=NOW)
    row = await bench.put(row, b"end", status="completed")
    assert await bench.store.retention.needed([row.run]) == {row.run: HELD}
    assert await remove(bench, row) == [Removal.GONE]  # whoever removes has asked before
    assert await bench.store.budgets.standings("own") == []
    (standing,) = await bench.store.budgets.standings("all")
    assert standing.key == AccountKey("all")


async def nothing_is_removed_while_runs_are_moved(bench: Bench) -> None:
    row = await finish(bench, "a")
    await bench.store.moving.begin(Mark("token", "sqlite:///there.db"))
    assert await bench.store.retention.needed([row.run]) == {row.run: MOVING}
    assert await remove(bench, row) == [Removal.STAYS]
    await bench.store.moving.give_up("token")
    assert await remove(bench, row) == [Removal.GONE]


async def one_removes_at_a_time(bench: Bench) -> None:
    """A turn ends by itself; whoever takes it over is told what was planned."""
    retention = bench.store.retention
    turn = await retention.turn("a", now=NOW, until=NOW + 10)
    assert turn is not None
    assert turn.plan is None
    assert await retention.note("a", b"plan")
    assert await retention.turn("b", now=NOW + 9, until=NOW + 20) is None
    kept = await retention.turn("a", now=NOW + 9, until=NOW + 15)
    assert kept is not None
    assert kept.plan == b"plan"
    assert not await retention.note("b", None)
    taken = await retention.turn("b", now=NOW + 16, until=NOW + 20)
    assert taken is not None
    assert taken.plan == b"plan"
    assert not await retention.note("a", None)
    assert await retention.note("b", None)
    await retention.leave("a")
    assert await retention.turn("c", now=NOW + 17, until=NOW + 20) is None
    await retention.leave("b")
    left = await retention.turn("c", now=NOW + 17, until=NOW + 20, rules=b"rules")
    assert left is not None
    assert left.plan is None
    assert await retention.sweeping() == Sweeping("c", NOW + 20, NOW + 17, b"rules")


async def what_a_fork_takes_over_from_moves_with_it(bench: Bench) -> None:
    await finish(bench, "donor")
    await bench.make("fork", donor="donor")
    (package,) = await bench.store.moving.read(["fork"])
    assert package is not None
    assert package.counts()["donor"] == 1
    assert await bench.store.moving.put([package.under("copy")]) == [True]
    (copy,) = await bench.store.moving.read(["copy"])
    assert copy is not None
    assert copy.counts()["donor"] == 1


async def the_room_of_runs_is_told_by_workflow(bench: Bench) -> None:
    """About how many there are, since when, and what their histories take; and what was removed isn't counted."""
    assert (await bench.store.disk.use()).runs == 0
    worker = await bench.worker()
    for number in range(3):
        row = await bench.make(f"r-{number}", owner=worker, created_at=NOW + number)
        noise = [
            hashlib.shake_128(bytes([number, n])).digest(100) for n in range(10)
        ]  # no store can compress it
        await bench.put(row, *noise)
    await bench.make("other", workflow="other")
    gone = await finish(bench, "gone")
    await remove(bench, gone)
    use = await bench.store.disk.use()
    assert (use.runs, use.oldest) == (4, NOW)
    sizes = {one.workflow: (one.runs, one.events) for one in use.workflows}
    assert sizes == {gone.workflow: (3, 33), "other": (1, 1)}
    largest, smallest = use.workflows
    assert largest.bytes >= 3000
    assert largest.bytes > 5 * smallest.bytes >= 5 * len(b"first")
    assert use.bytes == sum(table.bytes for table in use.tables) + use.free or use.shrinks
    await sweep_all(bench)
    assert (await bench.store.disk.use()).remainders == 0


async def free_room_is_given_back_in_steps(bench: Bench) -> None:
    """By stores that can."""
    row = await bench.make("long", owner=await bench.worker())
    for _ in range(20):
        row = await bench.put(row, b"e" * 50_000)
    row = await bench.put(row, b"end", status="completed")
    await remove(bench, row)
    await sweep_all(bench)
    before = await bench.store.disk.use()
    given = await bench.store.disk.shrink(bytes=100_000)
    after = await bench.store.disk.use()
    assert (given > 0) == before.shrinks
    assert after.free == before.free - given
    assert given <= 110_000
    assert given >= 90_000 or not before.shrinks


CHECKS: tuple[Check, ...] = (
    the_room_of_runs_is_told_by_workflow,
    free_room_is_given_back_in_steps,
    ended_runs_come_in_order_of_their_ends,
    a_listed_run_tells_of_its_parent,
    a_removed_run_is_gone_and_its_id_free,
    keys_are_never_given_again,
    only_what_is_as_it_was_is_removed,
    a_removed_run_cant_be_followed,
    all_generations_go,
    everything_of_a_run_goes,
    a_step_removes_no_more_than_it_may,
    what_it_started_goes_after_it,
    a_run_stays_while_what_it_started_goes_on,
    a_donor_stays_while_a_fork_lives,
    a_run_stays_while_money_is_held_for_it,
    nothing_is_removed_while_runs_are_moved,
    one_removes_at_a_time,
    what_a_fork_takes_over_from_moves_with_it,
)
