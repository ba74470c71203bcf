"""Messages: into a run's inbox, to its driver, and into its history."""

from __future__ import annotations

import asyncio

from perdure.storage.records import Appended, BlockCode, Delivery
from perdure.testing.conformance.bench import NOW, Bench, Check


async def send_says_what_became_of_it(bench: Bench) -> None:
    """Delivered, or there is no such run, or it has ended."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    assert await bench.store.send("r", b"hello", now=NOW) is Delivery.DELIVERED
    assert await bench.store.send("nobody", b"hello", now=NOW) is Delivery.UNKNOWN_RUN
    await bench.put(row, b"end", status="completed")
    assert await bench.store.send("r", b"hello", now=NOW) is Delivery.RUN_ENDED
    assert (await bench.row("r")).mail == 0


async def mail_keeps_its_order(bench: Bench) -> None:
    """Oldest first, each once, with ids that are never used again."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    for n in range(5):
        await bench.store.send("r", bytes([n]), now=NOW)
    (history,) = await bench.store.load([row.run])
    assert [item.data for item in history.mail] == [bytes([n]) for n in range(5)]
    assert {item.run for item in history.mail} == {row.run}
    assert (await bench.row("r")).mail == 5
    ids = [item.id for item in history.mail]
    assert ids == sorted(set(ids))
    await bench.put(row, b"all", consumed=ids)
    await bench.store.send("r", b"next", now=NOW)
    (history,) = await bench.store.load([row.run])
    assert [item.data for item in history.mail] == [b"next"]
    assert history.mail[0].id not in ids


async def sent_at_once_all_arrive(bench: Bench) -> None:
    """One sender's messages keep their order even if it doesn't wait for each."""
    row = await bench.make("r")
    await asyncio.gather(*(bench.store.send("r", b"%d" % n, now=NOW) for n in range(50)))
    assert await bench.inbox(row) == [b"%d" % n for n in range(50)]
    assert (await bench.row("r")).mail == 50


async def mail_makes_an_unowned_run_due(bench: Bench) -> None:
    """Unless it is due earlier."""
    await bench.make("later", wake_at=NOW + 60)
    await bench.make("earlier", wake_at=NOW - 60)
    worker = await bench.worker()
    waiting = await bench.make("waiting", owner=worker)
    await bench.put(waiting, release=True, status="waiting")
    for name in ("later", "earlier", "waiting"):
        await bench.store.send(name, b"hello", now=NOW)
    assert (await bench.row("later")).wake_at == NOW
    assert (await bench.row("earlier")).wake_at == NOW - 60
    assert (await bench.row("waiting")).wake_at == NOW


async def mail_leaves_the_driver_alone(bench: Bench) -> None:
    """The owner of a run finds new mail by mail(), of all its runs, oldest first within each, and only of its own."""
    worker, other = await bench.worker(), await bench.worker()
    first, second = await bench.make("a", owner=worker), await bench.make("b", owner=worker)
    await bench.make("c", owner=other)
    await bench.make("d")
    for name, data in (("b", b"1"), ("a", b"2"), ("c", b"3"), ("b", b"4"), ("d", b"5")):
        await bench.store.send(name, data, now=NOW)
    assert (await bench.row("a")).owner == worker
    assert (await bench.row("a")).wake_at is None
    items = await bench.store.mail(worker)
    assert [item.data for item in items if item.run == first.run] == [b"2"]
    assert [item.data for item in items if item.run == second.run] == [b"1", b"4"]
    assert len(items) == 3
    assert await bench.store.mail(other + 1) == []


async def held_runs_keep_their_mail(bench: Bench) -> None:
    """Mail doesn't make a blocked run due, neither before nor after it is released."""
    worker = await bench.worker()
    for status in ("blocked",):
        row = await bench.make(status, owner=worker)
        await bench.store.send(status, b"early", now=NOW)
        row = await bench.put(row, status=status, reason="why", block_code=BlockCode.POISON, release=True)
        assert row.wake_at is None
        await bench.store.send(status, b"late", now=NOW)
        row = await bench.row(status)
        assert (row.status, row.wake_at, row.mail) == (status, None, 2)
        assert await bench.inbox(row) == [b"early", b"late"]
    assert await bench.claim(worker, now=NOW + 99) == []


async def consumed_mail_is_gone(bench: Bench) -> None:
    """With the append that took it in, once, and only that run's."""
    worker = await bench.worker()
    row, other = await bench.make("r", owner=worker), await bench.make("other", owner=worker)
    for name in ("r", "r", "r", "other"):
        await bench.store.send(name, b"hello", now=NOW)
    mine, _, last = (await bench.store.load([row.run]))[0].mail
    foreign = (await bench.store.load([other.run]))[0].mail[0]
    row = await bench.put(row, b"taken", consumed=[mine.id, last.id, foreign.id, 999_999])
    assert row.mail == 1
    assert (await bench.row("other")).mail == 1
    row = await bench.put(row, consumed=[mine.id])
    assert row.mail == 1
    assert len(await bench.store.mail(worker)) == 2


async def a_refused_append_consumes_nothing(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.store.send("r", b"hello", now=NOW)
    (item,) = await bench.store.mail(worker)
    await bench.append(row, b"x", expected=7, consumed=[item.id])
    assert await bench.store.mail(worker) == [item]


async def mail_that_races_with_a_release_wakes(bench: Bench) -> None:
    """Mail beyond what the releasing append consumed makes the run due at once."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.store.send("r", b"seen", now=NOW)
    (seen,) = await bench.store.mail(worker)
    await bench.store.send("r", b"unseen", now=NOW)
    row = await bench.put(
        row, b"x", consumed=[seen.id], release=True, status="waiting", wake_at=NOW + 99, now=NOW + 5
    )
    assert (row.owner, row.mail, row.wake_at) == (None, 1, NOW + 5)
    (row,) = await bench.claim(worker, now=NOW + 5)
    assert await bench.inbox(row) == [b"unseen"]


async def a_release_that_took_everything_sleeps(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.store.send("r", b"seen", now=NOW)
    (seen,) = await bench.store.mail(worker)
    (answer,) = await bench.store.append(
        [bench.change(row, b"x", consumed=[seen.id], release=True, status="waiting", wake_at=NOW + 99)]
    )
    assert answer == Appended(2)
    assert (await bench.row("r")).wake_at == NOW + 99


CHECKS: tuple[Check, ...] = (
    send_says_what_became_of_it,
    mail_keeps_its_order,
    sent_at_once_all_arrive,
    mail_makes_an_unowned_run_due,
    mail_leaves_the_driver_alone,
    held_runs_keep_their_mail,
    consumed_mail_is_gone,
    a_refused_append_consumes_nothing,
    mail_that_races_with_a_release_wakes,
    a_release_that_took_everything_sleeps,
)
