"""Runs that follow each other under one id."""

from __future__ import annotations

from typing import Any

from perdure.codec.events import decode_event, encode_event
from perdure.core.events import CancelRequested, ChildEnded
from perdure.storage.records import (
    Append,
    Appended,
    Delivery,
    MailKind,
    NewMail,
    ParentPolicy,
    RunFilter,
    RunRow,
    Stale,
    Successor,
)
from perdure.testing.conformance.bench import NOW, Bench, Check


async def ended(bench: Bench, id: str, status: str = "failed", **fields: Any) -> RunRow:
    """The row of a run that has ended."""
    row = await bench.make(id, owner=await bench.worker(), **fields)
    return await bench.put(row, b"end", status=status)


def continues(bench: Bench, row: RunRow, *mail: bytes, owner: int | None = None, **fields: Any) -> Append:
    """The append by which a run goes on in its next generation."""
    new = bench.new(
        row.id,
        generation=row.generation + 1,
        owner=owner,
        first_event=b"again",
        created_at=NOW + 5,
        mail=[NewMail(data, MailKind.CONTROL) for data in mail],
    )
    return bench.change(row, b"end", status="continued", successor=Successor(new), **fields)


async def a_run_begins_with_generation_1(bench: Bench) -> None:
    """Nothing follows it, and it is found by that number."""
    row = await bench.make("r")
    assert (row.generation, row.next) == (1, None)
    assert await bench.store.generation("r", 1) == row
    assert await bench.store.generation("r", 2) is None
    assert await bench.store.generation("other", 1) is None


async def a_run_that_follows_takes_the_id_over(bench: Bench) -> None:
    """The id means the new one from now on; the old one stays as it was, and is found by its number."""
    old = await ended(bench, "r")
    (created,) = await bench.store.create(
        [bench.new("r", follows=old.run, generation=2, first_event=b"again", wake_at=NOW + 7)]
    )
    new = created.row
    assert created.new
    assert (new.id, new.generation, new.next, new.seq, new.status) == ("r", 2, None, 1, "queued")
    assert await bench.row("r") == new
    assert await bench.store.generation("r", 2) == new
    former = await bench.store.generation("r", 1)
    assert former is not None
    assert (former.run, former.status, former.next) == (old.run, "failed", new.run)
    assert await bench.store.events(old.run) == [(1, b"first"), (2, b"end")]
    assert await bench.store.events(new.run) == [(1, b"again")]
    assert await bench.store.find(RunFilter()) == [new]


async def only_one_run_follows_another(bench: Bench) -> None:
    """A second one counts as a run that exists, and so does one that would follow a live run."""
    old = await ended(bench, "r")
    again = [bench.new("r", follows=old.run, generation=2) for _ in range(2)]
    first, second = await bench.store.create(again)
    assert (first.new, second.new) == (True, False)
    assert first.row == second.row
    live = await bench.make("live")
    (refused,) = await bench.store.create([bench.new("live", follows=live.run, generation=2)])
    assert not refused.new
    assert refused.row == live


async def a_run_goes_on_with_the_append_that_ends_it(bench: Bench) -> None:
    """One append ends the old run and makes the new one, driven by the caller if it says so."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    (answer,) = await bench.store.append([continues(bench, row, owner=worker)])
    new = await bench.row("r")
    assert answer == Appended(2, (), (new.run, 1))
    assert (new.generation, new.owner, new.epoch, new.status) == (2, worker, 1, "running")
    assert (new.created_at, new.seq) == (NOW + 5, 1)
    former = await bench.store.generation("r", 1)
    assert former is not None
    assert (former.status, former.next, former.owner) == ("continued", new.run, None)
    assert await bench.store.owned(worker) == [(new.run, 1)]
    assert await bench.append(row, b"late") == Stale(2, 1)


async def an_append_that_goes_on_recognises_itself(bench: Bench) -> None:
    """A repeat makes no third generation, and is told what the first was told."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    append = continues(bench, row, b"carried", owner=worker)
    (first,) = await bench.store.append([append])
    (second,) = await bench.store.append([append])
    assert first == second
    assert (await bench.row("r")).generation == 2
    assert await bench.inbox(await bench.row("r")) == [b"carried"]


async def a_new_generation_that_nobody_drives_is_due(bench: Bench) -> None:
    """Its epoch in the answer is 0, and a worker can claim it."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    (answer,) = await bench.store.append([continues(bench, row)])
    new = await bench.row("r")
    assert answer == Appended(2, (), (new.run, 0))
    assert (new.status, new.owner, new.wake_at) == ("queued", None, NOW)
    assert [claimed.run for claimed in await bench.claim(worker)] == [new.run]


async def unread_mail_goes_over(bench: Bench) -> None:
    """In order, after the mail that the append brings; what answered the old generation alone doesn't."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    cancel = encode_event(CancelRequested(at=NOW))
    child = encode_event(ChildEnded(at=NOW, child="a#1", status="completed", result=b"1"))
    for data in (b"taken", cancel, child, b"second"):
        await bench.store.send("r", data, now=NOW)
    (taken, *_) = await bench.store.mail(worker)
    append = continues(bench, row, b"zero", b"first", owner=worker, consumed=[taken.id])
    await bench.store.append([append])
    new = await bench.row("r")
    assert await bench.inbox(new) == [b"zero", b"first", cancel, b"second"]
    assert new.mail == 4
    former = await bench.store.generation("r", 1)
    assert former is not None
    assert former.mail == 0
    assert await bench.store.send("r", b"third", now=NOW) is Delivery.DELIVERED
    assert [item.data for item in await bench.store.mail(worker)][-1] == b"third"


async def keys_of_mail_go_over(bench: Bench) -> None:
    """A message that an earlier generation had isn't delivered again to a later one."""
    row = await bench.make("r", owner=await bench.worker())
    sent = await bench.store.send("r", b"once", now=NOW, kind=MailKind.MESSAGE, key="k")
    assert sent is Delivery.DELIVERED
    await bench.store.append([continues(bench, row)])
    new = await bench.row("r")
    sent = await bench.store.send("r", b"once", now=NOW, kind=MailKind.MESSAGE, key="k")
    assert sent is Delivery.REPEATED
    assert await bench.inbox(new) == [b"once"]


async def a_run_may_inherit_from_an_ended_one(bench: Bench) -> None:
    """Undelivered messages and the keys of mail go over if the new run says so, and else stay."""
    for inherit in (True, False):
        id = f"r-{inherit}"
        row = await bench.make(id, owner=await bench.worker())
        await bench.store.send(id, b"unread", now=NOW, kind=MailKind.MESSAGE, key="k")
        old = await bench.put(row, b"end", status="failed")
        assert old.mail == 1
        await bench.store.create([bench.new(id, follows=old.run, generation=2, inherit=inherit)])
        new = await bench.row(id)
        assert await bench.inbox(new) == ([b"unread"] if inherit else [])
        assert await bench.inbox(old) == ([] if inherit else [b"unread"])
        again = await bench.store.send(id, b"unread", now=NOW, kind=MailKind.MESSAGE, key="k")
        assert again is (Delivery.REPEATED if inherit else Delivery.DELIVERED)


async def a_new_generation_has_its_parent_still(bench: Bench) -> None:
    """The parent isn't told of the old one's end; its own children are treated as at any end."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    await bench.put(
        parent,
        b"started",
        children=[bench.new("r", owner=worker, parent_op="r#1", on_parent_close=ParentPolicy.TERMINATE)],
    )
    row = await bench.put(await bench.row("r"), b"more", children=[bench.new("grandchild", owner=worker)])
    await bench.store.append([continues(bench, row, owner=worker)])
    new = await bench.row("r")
    assert (new.parent, new.parent_id, new.parent_op) == (parent.run, "parent", "r#1")
    assert new.on_parent_close == ParentPolicy.TERMINATE
    assert await bench.inbox(parent) == []
    (told,) = await bench.inbox(await bench.row("grandchild"))
    assert isinstance(decode_event(told), CancelRequested)
    await bench.put(await bench.row("parent"), b"end", status="completed")
    assert (await bench.row("r")).status == "terminated"


CHECKS: tuple[Check, ...] = (
    a_run_begins_with_generation_1,
    a_run_that_follows_takes_the_id_over,
    only_one_run_follows_another,
    a_run_goes_on_with_the_append_that_ends_it,
    an_append_that_goes_on_recognises_itself,
    a_new_generation_that_nobody_drives_is_due,
    unread_mail_goes_over,
    keys_of_mail_go_over,
    a_run_may_inherit_from_an_ended_one,
    a_new_generation_has_its_parent_still,
)
