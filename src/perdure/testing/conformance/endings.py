"""How runs end, and what that means for their children and parents."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.codec.events import decode_event
from perdure.core.events import CancelRequested, ChildEnded, RunTerminated
from perdure.core.status import FINAL
from perdure.storage.effects import StepDetail
from perdure.storage.records import Append, Appended, Delivery, MailKind, ParentPolicy, RunRow, Stale
from perdure.testing.conformance.bench import NOW, Bench, Check


async def a_final_status_ends_the_run(bench: Bench) -> None:
    """No owner, nothing to wake it, its end noted and its inbox dropped; release needn't be said."""
    worker = await bench.worker()
    for status in FINAL:
        row = await bench.make(status.value, owner=worker)
        await bench.store.send(status.value, b"unread", now=NOW)
        row = await bench.put(
            row, b"end", status=status.value, reason="so it is", wake_at=NOW + 9, now=NOW + 3
        )
        assert (row.status, row.reason, row.owner, row.wake_at) == (status.value, "so it is", None, None)
        assert (row.ended_at, row.updated_at, row.mail, row.seq) == (NOW + 3, NOW + 3, 0, 2)
        assert await bench.inbox(row) == []
        assert await bench.append(row, b"x") == Stale(2, 1)
    assert await bench.store.owned(worker) == []
    assert await bench.store.mail(worker) == []
    assert await bench.claim(worker, now=NOW + 99) == []


async def ends_in_one_batch_each_have_their_consequences(bench: Bench) -> None:
    """Runs that nothing follows from, and others with mail, details or children, beside one that goes on."""
    worker = await bench.worker()
    names = ("quiet", "mailed", "detailed", "parent", "late", "going")
    rows = {name: await bench.make(name, owner=worker) for name in names}
    await bench.store.send("mailed", b"unread", now=NOW)
    await bench.store.send("mailed", b"kept", now=NOW, kind=MailKind.MESSAGE)
    rows["mailed"] = await bench.row("mailed")
    rows["detailed"] = await bench.put(rows["detailed"], effects=[StepDetail("s#1", b"half", NOW)])
    rows["parent"] = await bench.put(rows["parent"], b"child", children=[bench.new("child", owner=worker)])
    late = bench.change(rows["late"], b"x")
    rows["late"] = await bench.put(rows["late"], b"y")
    end = {"status": "completed", "now": NOW + 3}
    batch = [bench.change(rows[name], b"end", **end) for name in names[:-2]]
    batch += [msgspec.structs.replace(late, status="completed"), bench.change(rows["going"], b"x")]
    for _ in range(2):  # a repeat is recognised
        answers = await bench.store.append(batch)
        assert [isinstance(answer, Appended) for answer in answers] == [True] * 4 + [False, True]
        after = {name: await bench.row(name) for name in (*names, "child")}
        assert [after[name].status for name in names[:-2]] == ["completed"] * 4
        assert [after[name].ended_at for name in names[:-2]] == [NOW + 3] * 4
        assert [(after[name].status, after[name].owner) for name in names[-2:]] == [("running", worker)] * 2
        assert [len(await bench.history(after[name])) for name in names] == [2, 2, 2, 3, 2, 2]
        assert [after[name].mail for name in (*names, "child")] == [0, 1, 0, 0, 0, 0, 1]
        assert await bench.inbox(after["mailed"]) == [b"kept"]
        (history,) = await bench.store.load([after["detailed"].run])
        assert not history.details
        assert isinstance(decode_event((await bench.inbox(after["child"]))[0]), CancelRequested)


async def ends_in_one_batch_are_each_their_own(bench: Bench) -> None:
    """Status, reason and moment, in whatever order they come."""
    worker = await bench.worker()
    ends = {"a": "completed", "b": "failed", "c": "cancelled"}
    batch: list[Append] = []
    for number, (id, status) in enumerate(ends.items()):
        row = await bench.make(id, owner=worker)
        await bench.store.send(
            id, b"kept", now=NOW, kind=MailKind.MESSAGE
        )  # so that the end has consequences
        batch.append(bench.change(row, b"end", status=status, reason=f"for {id}", now=NOW + number))
    await bench.store.append([batch[1], batch[2], batch[0]])
    after = [await bench.row(id) for id in ends]
    assert [(row.status, row.reason, row.ended_at) for row in after] == [
        (status, f"for {id}", NOW + number) for number, (id, status) in enumerate(ends.items())
    ]


async def children_are_made_with_the_append(bench: Bench) -> None:
    """Their parent is the run; each answer has the child's key, and its epoch if the caller drives it."""
    worker, other = await bench.worker(), await bench.worker()
    parent = await bench.make("parent", owner=worker)
    old = await bench.make("old")
    answer = await bench.append(
        parent,
        b"started",
        children=[
            bench.new("mine", owner=worker, parent_op="a#1"),
            bench.new("free", parent_op="b#1", wake_at=NOW + 5),
            bench.new("old", owner=worker),
            bench.new("theirs", owner=other),
        ],
    )
    rows = [await bench.row(name) for name in ("mine", "free", "old", "theirs")]
    assert isinstance(answer, Appended)
    assert answer.seq == 2
    assert [tuple(child) for child in answer.children] == [
        (rows[0].run, 1),
        (rows[1].run, 0),
        (rows[2].run, 0),
        (rows[3].run, 0),
    ]
    assert [row.parent for row in rows] == [parent.run, parent.run, None, parent.run]
    assert [row.parent_id for row in rows] == ["parent", "parent", None, "parent"]
    assert [row.owner for row in rows] == [worker, None, None, other]
    assert (rows[0].parent_op, rows[1].wake_at) == ("a#1", NOW + 5)
    assert rows[2] == old
    assert list(await bench.history(rows[0])) == [b"first"]


async def a_refused_append_makes_no_children(bench: Bench) -> None:
    parent = await bench.make("parent", owner=await bench.worker())
    change = bench.change(parent, b"x", expected=5, children=[bench.new("child")])
    assert await bench.store.append([change]) == [Stale(1, 1)]
    assert await bench.store.get(["child"]) == [None]


async def a_repeat_knows_its_children(bench: Bench) -> None:
    worker, other = await bench.worker(), await bench.worker()
    parent = await bench.make("parent", owner=worker)
    children = [bench.new("mine", owner=worker), bench.new("free"), bench.new("theirs", owner=other)]
    change = bench.change(parent, b"x", children=children)
    (first,) = await bench.store.append([change])
    (again,) = await bench.store.append([change])
    assert isinstance(first, Appended)
    assert isinstance(again, Appended)
    assert [tuple(child) for child in first.children] == [tuple(child) for child in again.children]
    assert [epoch for _, epoch in first.children] == [1, 0, 0]


async def parents_get_mail(bench: Bench) -> None:
    """If they are live: then it also makes them due."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    first, second, third = [
        await bench.make(name, owner=worker, parent=parent.run, parent_op=name) for name in ("a", "b", "c")
    ]
    await bench.put(first, b"end", status="completed", parent_mail=b"a ended")
    parent = await bench.row("parent")
    assert (parent.mail, parent.wake_at, parent.owner) == (1, None, worker)
    (item,) = await bench.store.mail(worker)
    parent = await bench.put(parent, b"x", consumed=[item.id], release=True, status="waiting")
    assert parent.wake_at is None
    await bench.put(second, b"end", status="failed", parent_mail=b"b ended", now=NOW + 4)
    assert (await bench.row("parent")).wake_at == NOW + 4
    (parent,) = await bench.claim(worker, now=NOW + 4)
    assert await bench.inbox(parent) == [b"b ended"]
    parent = await bench.put(parent, b"end", status="completed")
    await bench.put(third, b"end", status="completed", parent_mail=b"c ended")
    assert await bench.inbox(parent) == []
    assert (await bench.row("parent")).mail == 0


async def mail_for_no_parent_is_dropped(bench: Bench) -> None:
    row = await bench.make("r", owner=await bench.worker())
    row = await bench.put(row, b"end", status="completed", parent_mail=b"nobody reads this")
    assert row.status == "completed"


async def _family(bench: Bench, parent: RunRow, owner: int) -> None:
    """Children of each kind, some driven and some not, some ended, and their children."""
    kinds: dict[str, dict[str, Any]] = {
        "cancel": {},
        "cancel-owned": {"owner": owner},
        "abandon": {"on_parent_close": ParentPolicy.ABANDON},
        "terminate": {"on_parent_close": ParentPolicy.TERMINATE},
        "terminate-owned": {"on_parent_close": ParentPolicy.TERMINATE, "owner": owner},
        "ended": {"on_parent_close": ParentPolicy.TERMINATE, "owner": owner},
    }
    for name, fields in kinds.items():
        await bench.make(name, parent=parent.run, parent_op=f"{name}#1", wake_at=NOW + 60, **fields)
    await bench.put(await bench.row("ended"), b"end", status="completed")
    above = await bench.row("terminate-owned")
    await bench.make(
        "grandchild", parent=above.run, parent_op="g#1", on_parent_close=ParentPolicy.TERMINATE, owner=owner
    )
    await bench.make("grandchild-cancel", parent=above.run, parent_op="g#2", owner=owner)
    below = await bench.row("grandchild")
    await bench.make(
        "great-grandchild", parent=below.run, parent_op="g#3", on_parent_close=ParentPolicy.TERMINATE
    )
    await bench.store.send("great-grandchild", b"unread", now=NOW)


async def _family_is_closed(bench: Bench, now: float) -> None:
    """What must have become of them."""
    for name in ("cancel", "cancel-owned", "grandchild-cancel"):
        row = await bench.row(name)
        assert row.ended_at is None
        (data,) = await bench.inbox(row)
        event = decode_event(data)
        assert isinstance(event, CancelRequested)
        assert event.at == now
        assert event.reason
        assert row.mail == 1
    assert (await bench.row("cancel")).wake_at == now
    assert (await bench.row("cancel-owned")).wake_at is None
    abandoned = await bench.row("abandon")
    assert (abandoned.status, abandoned.mail, abandoned.wake_at) == ("queued", 0, NOW + 60)
    for name in ("terminate", "terminate-owned", "grandchild", "great-grandchild"):
        row = await bench.row(name)
        assert (row.status, row.owner, row.wake_at, row.mail) == ("terminated", None, None, 0)
        assert (row.ended_at, row.seq) == (now, 2)
        (newest,) = await bench.store.last_event([row.run])
        assert isinstance(newest, bytes)
        event = decode_event(newest)
        assert isinstance(event, RunTerminated)
        assert event.at == now
    ended = await bench.row("ended")
    assert (ended.status, ended.seq) == ("completed", 2)


async def a_final_status_closes_the_family(bench: Bench) -> None:
    """Live children are cancelled, abandoned or terminated as they wish, and theirs after them."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    await _family(bench, parent, worker)
    driven = await bench.row("terminate-owned")
    await bench.put(parent, b"end", status="failed", now=NOW + 8)
    await _family_is_closed(bench, NOW + 8)
    answer = await bench.append(driven, b"x")
    assert isinstance(answer, Stale)


async def a_batch_may_end_a_parent_and_append_to_its_child(bench: Bench) -> None:
    """The child that its parent's end terminates is fenced off, or its append came before that: all or nothing."""
    worker = await bench.worker()

    async def family(name: str) -> tuple[Append, Append]:
        parent = await bench.make(f"{name}-parent", owner=worker)
        child = await bench.make(
            f"{name}-child", owner=worker, parent=parent.run, on_parent_close=ParentPolicy.TERMINATE
        )
        return bench.change(parent, b"end", status="completed"), bench.change(child, b"x")

    end, change = await family("late")
    first, second = await bench.store.append([end, change])
    assert first == Appended(2)
    child = await bench.row("late-child")
    assert (child.status, child.seq) == ("terminated", 2 if isinstance(second, Stale) else 3)
    assert (b"x" in await bench.history(child)) == isinstance(second, Appended)
    end, change = await family("early")
    assert await bench.store.append([change, end]) == [Appended(2), Appended(2)]
    child = await bench.row("early-child")
    assert (child.status, child.seq) == ("terminated", 3)


async def terminate_ends_a_run_at_once(bench: Bench) -> None:
    """Its event is appended, its driver fenced off, its inbox dropped and its family closed."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    await _family(bench, parent, worker)
    await bench.store.send("parent", b"unread", now=NOW)
    assert await bench.store.terminate("parent", b"terminated", now=NOW + 8) is Delivery.DELIVERED
    row = await bench.row("parent")
    assert (row.status, row.owner, row.wake_at, row.mail) == ("terminated", None, None, 0)
    assert (row.ended_at, row.updated_at, row.seq) == (NOW + 8, NOW + 8, 2)
    assert row.epoch > parent.epoch
    assert list(await bench.history(row)) == [b"first", b"terminated"]
    assert await bench.inbox(row) == []
    assert await bench.append(parent, b"x") == Stale(2, row.epoch)
    await _family_is_closed(bench, NOW + 8)


async def terminate_tells_the_parent(bench: Bench) -> None:
    """By a ChildEnded event for the op under which the parent waits."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    await bench.make("child", parent=parent.run, parent_op="pay#3")
    await bench.put(parent, release=True, status="waiting")
    await bench.store.terminate("child", b"terminated", now=NOW + 8)
    parent = await bench.row("parent")
    (data,) = await bench.inbox(parent)
    assert decode_event(data) == ChildEnded(at=NOW + 8, child="pay#3", status="terminated")
    assert parent.wake_at == NOW + 8


async def terminate_says_what_became_of_it(bench: Bench) -> None:
    """A run that has ended stays as it is."""
    assert await bench.store.terminate("nobody", b"x", now=NOW) is Delivery.UNKNOWN_RUN
    row = await bench.make("r", owner=await bench.worker())
    row = await bench.put(row, b"end", status="completed")
    assert await bench.store.terminate("r", b"x", now=NOW) is Delivery.RUN_ENDED
    assert await bench.row("r") == row
    await bench.make("queued", wake_at=NOW + 60)
    assert await bench.store.terminate("queued", b"x", now=NOW) is Delivery.DELIVERED
    assert await bench.store.terminate("queued", b"x", now=NOW) is Delivery.RUN_ENDED


async def terminate_takes_blocked_runs_too(bench: Bench) -> None:
    row = await bench.make("r", owner=await bench.worker())
    await bench.put(row, status="blocked", reason="why", block_code="poison", release=True)
    await bench.store.terminate("r", b"x", now=NOW)
    row = await bench.row("r")
    assert (row.status, row.reason, row.block_code) == ("terminated", None, None)


CHECKS: tuple[Check, ...] = (
    a_final_status_ends_the_run,
    ends_in_one_batch_each_have_their_consequences,
    ends_in_one_batch_are_each_their_own,
    children_are_made_with_the_append,
    a_refused_append_makes_no_children,
    a_repeat_knows_its_children,
    parents_get_mail,
    mail_for_no_parent_is_dropped,
    a_final_status_closes_the_family,
    a_batch_may_end_a_parent_and_append_to_its_child,
    terminate_ends_a_run_at_once,
    terminate_tells_the_parent,
    terminate_says_what_became_of_it,
    terminate_takes_blocked_runs_too,
)
