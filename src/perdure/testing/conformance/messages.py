"""Messages: kept when a run ends, recognised by their keys, put in with a start, sent by other runs."""

from __future__ import annotations

from perdure.storage.effects import DeliverMessage
from perdure.storage.records import Delivery, MailKind, NewMail
from perdure.testing.conformance.bench import NOW, Bench, Check

MESSAGE = MailKind.MESSAGE


async def messages_outlive_their_run(bench: Bench) -> None:
    """However it ends: control mail is dropped, messages are kept and counted."""
    worker = await bench.worker()
    ends = ("completed", "failed", "cancelled", "terminated")
    for end in ends:
        row = await bench.make(end, owner=worker)
        for data, kind in ((b"one", MESSAGE), (b"control", MailKind.CONTROL), (b"two", MESSAGE)):
            await bench.store.send(end, data, now=NOW, kind=kind)
        if end == "terminated":
            await bench.store.terminate(end, b"over", now=NOW)
        else:
            await bench.put(row, b"over", status=end)
    for end in ends:
        row = await bench.row(end)
        assert (row.status, row.mail, row.wake_at) == (end, 2, None)
        assert [item.data for item in await bench.store.inbox(row.run)] == [b"one", b"two"]
        assert {item.kind for item in await bench.store.inbox(row.run)} == {"message"}
    assert await bench.store.mail(worker) == []
    assert await bench.claim(worker, now=NOW + 99) == []


async def messages_outlive_many_runs_at_once(bench: Bench) -> None:
    """Also when a batch ends them together, and with the mail that its last appends consume."""
    worker = await bench.worker()
    rows = [await bench.make(f"r{n}", owner=worker) for n in range(5)]
    for row in rows[:3]:
        await bench.store.send(row.id, b"seen", now=NOW, kind=MESSAGE)
        await bench.store.send(row.id, b"unseen", now=NOW, kind=MESSAGE)
    seen = {item.run: item.id for item in await bench.store.mail(worker) if item.data == b"seen"}
    await bench.store.append(
        [
            bench.change(row, b"over", status="completed", consumed=[seen[row.run]] if n == 0 else ())
            for n, row in enumerate(rows)
        ]
    )
    assert [(await bench.row(row.id)).mail for row in rows] == [1, 2, 2, 0, 0]
    assert [item.data for item in await bench.store.inbox(rows[0].run)] == [b"unseen"]


async def a_key_lets_a_message_in_once(bench: Bench) -> None:
    """Whether the first one still waits, was taken into the history, or the run has ended since."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.make("other")
    store = bench.store
    assert await store.send("r", b"1", now=NOW, kind=MESSAGE, key="k") is Delivery.DELIVERED
    assert await store.send("r", b"2", now=NOW, kind=MESSAGE, key="k") is Delivery.REPEATED
    assert await store.send("r", b"3", now=NOW, kind=MESSAGE, key="l") is Delivery.DELIVERED
    assert await store.send("r", b"4", now=NOW, kind=MESSAGE) is Delivery.DELIVERED
    assert await store.send("other", b"5", now=NOW, kind=MESSAGE, key="k") is Delivery.DELIVERED
    assert await bench.inbox(row) == [b"1", b"3", b"4"]
    items = [item.id for item in await store.inbox(row.run)]
    row = await bench.put(row, b"taken", consumed=items)
    assert await store.send("r", b"6", now=NOW, kind=MESSAGE, key="k") is Delivery.REPEATED
    assert row.mail == 0
    await bench.put(row, b"over", status="completed")
    assert await store.send("r", b"7", now=NOW, kind=MESSAGE, key="k") is Delivery.REPEATED
    assert await store.send("r", b"8", now=NOW, kind=MESSAGE, key="m") is Delivery.RUN_ENDED
    assert (await bench.row("r")).mail == 0


async def a_start_brings_its_mail(bench: Bench) -> None:
    """In the commit that creates the run, one or many; the keys count from there on."""
    mail = (NewMail(b"one", key="k"), NewMail(b"two"))
    (made,) = await bench.store.create([bench.new("single", mail=mail)])
    assert (made.new, made.row.mail, made.delivery) == (True, 2, Delivery.DELIVERED)
    many = await bench.store.create([bench.new("a", mail=mail), bench.new("b"), bench.new("c", mail=mail)])
    assert [item.row.mail for item in many] == [2, 0, 2]
    for id in ("single", "a", "c"):
        assert await bench.inbox(await bench.row(id)) == [b"one", b"two"]
        assert await bench.store.send(id, b"three", now=NOW, kind=MESSAGE, key="k") is Delivery.REPEATED


async def a_start_that_meets_a_run_brings_its_mail_there(bench: Bench) -> None:
    """If it attaches, and both mean the same work."""
    mail = (NewMail(b"hello"),)
    row = await bench.make("r")
    (met,) = await bench.store.create([bench.new("r", mail=mail)])
    assert (met.new, met.row.mail, met.delivery) == (False, 1, Delivery.DELIVERED)
    (met,) = await bench.store.create([bench.new("r", mail=mail, attach=False)])
    assert met.row.mail == 1
    (met,) = await bench.store.create([bench.new("r", mail=mail, fingerprint=b"other")])
    assert met.row.mail == 1
    assert await bench.inbox(row) == [b"hello"]


async def a_start_that_meets_an_ended_run_says_so(bench: Bench) -> None:
    """Its mail went nowhere, unless all of it was delivered before."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker, mail=(NewMail(b"hello", key="k"),))
    (item,) = await bench.store.mail(worker)
    await bench.put(row, b"over", consumed=[item.id], status="completed")
    (met,) = await bench.store.create([bench.new("r", mail=(NewMail(b"hello", key="k"),))])
    assert met.delivery is Delivery.DELIVERED
    (met,) = await bench.store.create([bench.new("r", mail=(NewMail(b"more"),))])
    assert (met.new, met.row.mail, met.delivery) == (False, 0, Delivery.RUN_ENDED)


async def a_message_wakes_a_run_that_waits(bench: Bench) -> None:
    """But not before the delay with which it was started is over."""
    worker = await bench.worker()
    waiting = await bench.make("waiting", owner=worker)
    await bench.put(waiting, release=True, status="waiting", wake_at=NOW + 60)
    await bench.make("delayed", wake_at=NOW + 60)
    for id in ("waiting", "delayed"):
        await bench.store.send(id, b"hello", now=NOW, kind=MESSAGE)
    assert (await bench.row("waiting")).wake_at == NOW
    assert (await bench.row("delayed")).wake_at == NOW + 60
    await bench.store.send("delayed", b"cancel", now=NOW)
    assert (await bench.row("delayed")).wake_at == NOW


async def a_run_sends_in_its_append(bench: Bench) -> None:
    """Delivered with the append, and only if that passes, and once however often it is repeated."""
    worker = await bench.worker()
    sender, receiver = await bench.make("s", owner=worker), await bench.make("r")
    append = bench.change(
        sender, b"sent", effects=[DeliverMessage("r", b"hello"), DeliverMessage("nobody", b"x")]
    )
    await bench.store.append([append])
    await bench.store.append([append])
    await bench.append(sender, b"late", effects=[DeliverMessage("r", b"stale")])
    assert await bench.inbox(receiver) == [b"hello"]
    assert (await bench.row("r")).mail == 1


async def a_run_that_waits_is_woken_by_another(bench: Bench) -> None:
    worker = await bench.worker()
    sender, receiver = await bench.make("s", owner=worker), await bench.make("r", owner=worker)
    await bench.put(receiver, release=True, status="waiting")
    await bench.put(sender, b"sent", effects=[DeliverMessage("r", b"hello")], now=NOW + 5)
    assert (await bench.row("r")).wake_at == NOW + 5


async def what_a_run_sends_to_an_ended_one_is_kept(bench: Bench) -> None:
    """As undelivered. Also if that one ends in the same batch."""
    worker = await bench.worker()
    sender = await bench.make("s", owner=worker)
    before, at_once = await bench.make("before", owner=worker), await bench.make("at-once", owner=worker)
    await bench.put(before, b"over", status="completed")
    effects = [DeliverMessage("before", b"late"), DeliverMessage("at-once", b"late")]
    await bench.store.append(
        [
            bench.change(sender, b"sent", effects=effects),
            bench.change(at_once, b"over", status="completed"),
        ]
    )
    for id in ("before", "at-once"):
        row = await bench.row(id)
        assert (row.status, row.mail, row.wake_at) == ("completed", 1, None)
        assert [item.data for item in await bench.store.inbox(row.run)] == [b"late"]


async def an_inbox_is_shown_without_being_taken(bench: Bench) -> None:
    row = await bench.make("r")
    await bench.store.send("r", b"1", now=NOW)
    await bench.store.send("r", b"2", now=NOW, kind=MESSAGE)
    for _ in range(2):
        found = await bench.store.inbox(row.run)
        assert [(item.data, item.kind) for item in found] == [(b"1", "control"), (b"2", "message")]
    assert await bench.store.inbox(row.run + 1) == []


CHECKS: tuple[Check, ...] = (
    messages_outlive_their_run,
    messages_outlive_many_runs_at_once,
    a_key_lets_a_message_in_once,
    a_start_brings_its_mail,
    a_start_that_meets_a_run_brings_its_mail_there,
    a_start_that_meets_an_ended_run_says_so,
    a_message_wakes_a_run_that_waits,
    a_run_sends_in_its_append,
    a_run_that_waits_is_woken_by_another,
    what_a_run_sends_to_an_ended_one_is_kept,
    an_inbox_is_shown_without_being_taken,
)
