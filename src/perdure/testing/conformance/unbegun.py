"""Runs that nobody can begin: blocked for want of a worker, and never driven."""

from __future__ import annotations

from perdure.codec.events import decode_event
from perdure.core.events import ChildEnded
from perdure.storage.records import MailKind, RunRow
from perdure.testing.conformance.bench import NOW, Bench, Check


async def stranded(bench: Bench, id: str) -> RunRow:
    """A run that no worker knows."""
    await bench.make(id, workflow="unknown")
    assert await bench.store.strand(now=NOW + 1) == 1
    return await bench.row(id)


async def the_mail_of_unbegun_runs_is_found(bench: Bench) -> None:
    """Control mail only, of each run the oldest first, up to the limit."""
    worker = await bench.worker()
    first, second = await stranded(bench, "first"), await stranded(bench, "second")
    driven = await bench.make("driven", owner=worker)
    queued = await bench.make("queued", wake_at=NOW + 99)
    for row, text in ((second, b"1"), (first, b"2"), (driven, b"3"), (queued, b"4"), (second, b"5")):
        await bench.store.send(row.id, text, now=NOW + 2)
    await bench.store.send("first", b"message", now=NOW + 2, kind=MailKind.MESSAGE)
    found = await bench.store.unbegun.mail(limit=10)
    assert [item.data for item in found if item.run == first.run] == [b"2"]
    assert [item.data for item in found if item.run == second.run] == [b"1", b"5"]
    assert len(found) == 3
    (item,) = await bench.store.unbegun.mail(limit=1)
    assert item.data in (b"1", b"2")


async def an_unbegun_run_ends_without_a_driver(bench: Bench) -> None:
    row = await stranded(bench, "a")
    await bench.store.send("a", b"ask", now=NOW + 2)
    await bench.store.send("a", b"message", now=NOW + 2, kind=MailKind.MESSAGE)
    assert await bench.store.unbegun.end(row.run, b"end", status="cancelled", reason="enough", now=NOW + 3)
    after = await bench.row("a")
    assert (after.status, after.reason, after.block_code) == ("cancelled", "enough", None)
    assert (after.ended_at, after.updated_at, after.started_at) == (NOW + 3, NOW + 3, None)
    assert (after.seq, after.epoch, after.owner, after.wake_at) == (2, row.epoch + 1, None, None)
    assert list(await bench.history(row)) == [b"first", b"end"]
    assert await bench.inbox(row) == [b"message"]
    assert after.mail == 1
    assert await bench.store.unbegun.mail(limit=10) == []
    assert not await bench.store.unbegun.end(row.run, b"x", status="cancelled", reason=None, now=NOW + 4)
    assert await bench.row("a") == after


async def its_parent_is_told(bench: Bench) -> None:
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    await bench.append(parent, b"x", children=[bench.new("child", workflow="unknown", parent_op="c#1")])
    await bench.store.strand(now=NOW + 1)
    child = await bench.row("child")
    assert await bench.store.unbegun.end(child.run, b"end", status="terminated", reason=None, now=NOW + 3)
    (told,) = await bench.inbox(parent)
    event = decode_event(told)
    assert isinstance(event, ChildEnded)
    assert (event.child, event.status, event.at) == ("c#1", "terminated", NOW + 3)


async def a_run_that_can_begin_or_has_begun_is_left_alone(bench: Bench) -> None:
    """Driven, queued, begun and blocked later, or due again since a worker came that knows it."""
    worker = await bench.worker()
    driven = await bench.make("driven", owner=worker)
    begun = await bench.put(
        await bench.make("begun", owner=worker), status="blocked", block_code="code", release=True
    )
    queued = await bench.make("queued")
    again = await stranded(bench, "again")
    await bench.worker(workflows=["unknown"])
    for row in (driven, begun, queued, again):
        before = await bench.row(row.id)
        await bench.store.send(row.id, b"ask", now=NOW + 2)
        assert not await bench.store.unbegun.end(
            row.run, b"end", status="cancelled", reason=None, now=NOW + 3
        )
        after = await bench.row(row.id)
        assert (after.status, after.seq, after.epoch) == (before.status, before.seq, before.epoch)
    assert await bench.store.unbegun.mail(limit=10) == []


CHECKS: tuple[Check, ...] = (
    the_mail_of_unbegun_runs_is_found,
    an_unbegun_run_ends_without_a_driver,
    its_parent_is_told,
    a_run_that_can_begin_or_has_begun_is_left_alone,
)
