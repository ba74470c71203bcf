"""Holding runs, and letting them go on."""

from __future__ import annotations

from perdure.codec.events import encode_event
from perdure.core.events import CancelRequested
from perdure.storage.records import BlockCode, Delivery, MailKind, ParentPolicy
from perdure.testing.conformance.bench import NOW, Bench, Check

PAUSED, RESUMED = b"paused", b"resumed"


async def pause(bench: Bench, id: str) -> Delivery:
    return await bench.store.pauses.pause(id, PAUSED, reason="look", now=NOW)


async def resume(bench: Bench, id: str) -> Delivery:
    return await bench.store.pauses.resume(id, RESUMED, now=NOW + 1)


async def a_run_that_nobody_drives_is_paused_at_once(bench: Bench) -> None:
    """It isn't due, and no mail wakes it; the event waits in its inbox."""
    worker = await bench.worker()
    await bench.make("r")
    assert await pause(bench, "r") is Delivery.DELIVERED
    row = await bench.row("r")
    assert (row.status, row.reason, row.wake_at) == ("paused", "look", None)
    await bench.store.send("r", b"hello", now=NOW, kind=MailKind.MESSAGE)
    assert await bench.claim(worker, now=NOW + 99) == []
    assert await bench.inbox(row) == [PAUSED, b"hello"]


async def a_resumed_run_is_due(bench: Bench) -> None:
    """At once if it was driven before, else when it was due."""
    worker = await bench.worker()
    await bench.make("delayed", wake_at=NOW + 50)
    row = await bench.make("begun", owner=worker)
    await bench.put(row, status="waiting", release=True, wake_at=NOW + 50)
    for id in ("delayed", "begun"):
        await pause(bench, id)
        assert await resume(bench, id) is Delivery.DELIVERED
    delayed, begun = await bench.row("delayed"), await bench.row("begun")
    assert (delayed.status, delayed.wake_at, delayed.reason) == ("queued", NOW + 50, None)
    assert (begun.status, begun.wake_at, begun.reason) == ("waiting", NOW + 1, None)
    assert await bench.inbox(begun) == [PAUSED, RESUMED]


async def wishing_twice_changes_nothing(bench: Bench) -> None:
    """Nor does resuming what isn't paused; ended and unknown runs are told apart."""
    row = await bench.make("r", owner=await bench.worker())
    assert await resume(bench, "r") is Delivery.REPEATED
    await pause(bench, "r")
    assert await pause(bench, "r") is Delivery.REPEATED
    assert await bench.inbox(row) == [PAUSED]
    await bench.put(row, b"end", status="completed")
    assert await pause(bench, "r") is Delivery.RUN_ENDED
    assert await resume(bench, "r") is Delivery.RUN_ENDED
    assert await pause(bench, "nobody") is Delivery.UNKNOWN_RUN


async def a_driven_run_is_held_by_its_driver(bench: Bench) -> None:
    """It goes on until its driver gives it up as paused; mail doesn't wake it then."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await pause(bench, "r")
    assert (await bench.row("r")).status == "running"
    assert [item.data for item in await bench.store.mail(worker)] == [PAUSED]
    row = await bench.put(row, b"held", status="paused", reason="look", release=True)
    assert (row.status, row.reason, row.owner, row.wake_at) == ("paused", "look", None, None)
    await resume(bench, "r")
    assert [claimed.id for claimed in await bench.claim(worker, now=NOW + 1)] == ["r"]


async def a_resumption_isnt_lost_while_the_driver_gives_up(bench: Bench) -> None:
    """Given up as paused after it was resumed, a run is due at once."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await pause(bench, "r")
    await resume(bench, "r")
    row = await bench.put(row, b"held", status="paused", reason="look", release=True, now=NOW + 2)
    assert (row.status, row.reason, row.wake_at) == ("waiting", None, NOW + 2)


async def a_cancellation_lets_a_run_go_on(bench: Bench) -> None:
    """Whoever asks for it: a client, or the end of its parent."""
    cancel = encode_event(CancelRequested(at=NOW))
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    children = [bench.new("r", on_parent_close=ParentPolicy.CANCEL), bench.new("other")]
    parent = await bench.put(parent, b"x", children=children)
    for id in ("r", "other"):
        await pause(bench, id)
    await bench.store.send("other", cancel, now=NOW + 1)
    await bench.put(parent, b"end", status="completed")
    for id in ("r", "other"):
        row = await bench.row(id)
        assert (row.status, row.wake_at) == ("queued", NOW + 1)
        assert await resume(bench, id) is Delivery.REPEATED


async def a_run_with_a_damaged_history_is_due_when_it_is_resumed(bench: Bench) -> None:
    """It is blocked for a person, who may have mended it; other blocked runs stay where they are."""
    worker = await bench.worker()
    for id, code in (("damaged", BlockCode.HISTORY), ("poisonous", BlockCode.POISON)):
        row = await bench.make(id, owner=worker)
        await bench.put(row, status="blocked", reason="why", block_code=code, release=True)
    assert await resume(bench, "damaged") is Delivery.DELIVERED
    assert await resume(bench, "poisonous") is Delivery.REPEATED
    damaged, other = await bench.row("damaged"), await bench.row("poisonous")
    assert (damaged.status, damaged.wake_at, other.wake_at) == ("blocked", NOW + 1, None)
    (claimed,) = await bench.claim(worker, now=NOW + 1)
    assert (claimed.id, claimed.status, claimed.block_code) == ("damaged", "running", None)


async def a_run_with_a_full_history_is_due_when_it_is_resumed_or_cancelled(bench: Bench) -> None:
    """Messages and children's ends don't wake it: it could do nothing about them. A cancellation isn't overlooked."""
    worker, cancel = await bench.worker(), encode_event(CancelRequested(at=NOW))
    full = {"status": "blocked", "reason": "full", "block_code": BlockCode.LIMIT, "release": True}
    for id in ("resumed", "cancelled", "crossed"):
        row = await bench.make(id, owner=worker)
        if id == "crossed":  # it was cancelled while its driver gave it up
            await bench.store.send(id, cancel, now=NOW)
        await bench.put(row, **full)
    assert [row.id for row in await bench.claim(worker, now=NOW + 1)] == ["crossed"]
    for id in ("resumed", "cancelled"):
        await bench.store.send(id, b"message", now=NOW, kind=MailKind.MESSAGE)
        await bench.store.send(id, b"a child has ended", now=NOW)
    assert await bench.claim(worker, now=NOW + 99) == []
    assert await resume(bench, "resumed") is Delivery.DELIVERED
    await bench.store.send("cancelled", cancel, now=NOW + 1)
    assert sorted(row.id for row in await bench.claim(worker, now=NOW + 1)) == ["cancelled", "resumed"]


CHECKS: tuple[Check, ...] = (
    a_run_that_nobody_drives_is_paused_at_once,
    a_resumed_run_is_due,
    wishing_twice_changes_nothing,
    a_driven_run_is_held_by_its_driver,
    a_resumption_isnt_lost_while_the_driver_gives_up,
    a_cancellation_lets_a_run_go_on,
    a_run_with_a_damaged_history_is_due_when_it_is_resumed,
    a_run_with_a_full_history_is_due_when_it_is_resumed_or_cancelled,
)
