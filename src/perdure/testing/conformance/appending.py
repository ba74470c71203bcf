"""Appending: the compare-and-set chain of a run's history."""

from __future__ import annotations

import asyncio

import msgspec

from perdure.storage.chain import Damage, DamageKind, first_link, links
from perdure.storage.records import Appended, BlockCode, Stale
from perdure.testing.conformance.bench import LEASE, NOW, Bench, Check


async def events_follow_on(bench: Bench) -> None:
    """They get seq expected + 1 and so on; updated_at becomes now."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    assert await bench.append(row, b"2", b"3", now=NOW + 7) == Appended(3)
    row = await bench.row("r")
    assert (row.seq, row.updated_at, row.status, row.owner) == (3, NOW + 7, "running", worker)
    assert await bench.append(row, b"4", now=NOW + 8, release=True, wake_at=NOW) == Appended(4)
    assert list(await bench.history(row)) == [b"first", b"2", b"3", b"4"]
    assert (await bench.row("r")).updated_at == NOW + 8
    (row,) = await bench.claim(worker, now=NOW + 9)
    assert (row.seq, row.updated_at) == (4, NOW + 9)
    assert await bench.append(row, b"5", now=NOW + 10) == Appended(5)
    assert (await bench.row("r")).updated_at == NOW + 10


async def bytes_come_back_as_they_were(bench: Bench) -> None:
    """Empty, binary and large events alike, together and alone."""
    worker = await bench.worker()
    blobs = [b"", b"\x00", bytes(range(256)) * 40, bytes(range(256)) * 1200, b"'\"\\;--"]
    row = await bench.make("r", owner=worker, first_event=blobs[2])
    row = await bench.put(row, *blobs)
    other = await bench.make("other", owner=worker)
    await bench.store.append([bench.change(row, *blobs), bench.change(other, b"", blobs[3])])
    assert list(await bench.history(row)) == [blobs[2], *blobs, *blobs]
    assert list(await bench.history(other)) == [b"first", b"", blobs[3]]


async def a_wrong_seq_is_stale(bench: Bench) -> None:
    """The refusal says where the run is, and nothing was written."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, b"2")
    for expected in (1, 3):
        assert await bench.append(row, b"x", expected=expected, status="failed") == Stale(2, 1)
    assert await bench.row("r") == row
    assert list(await bench.history(row)) == [b"first", b"2"]


async def a_wrong_epoch_is_stale(bench: Bench) -> None:
    """A driver that was replaced can't write, even at the right seq."""
    old, new = await bench.worker(), await bench.worker()
    row = await bench.make("r", owner=old)
    await bench.store.retire(old, now=NOW)
    (taken,) = await bench.claim(new)
    assert taken.epoch > row.epoch
    assert await bench.append(row, b"x") == Stale(1, taken.epoch)
    assert await bench.append(taken, b"y") == Appended(2)
    assert await bench.append(row, b"x", expected=2) == Stale(2, taken.epoch)


async def nobodys_run_takes_no_appends(bench: Bench) -> None:
    """Neither one that was never claimed, nor one that was released, nor one that doesn't exist."""
    worker = await bench.worker()
    queued = await bench.make("queued")
    assert await bench.append(queued, b"x") == Stale(1, 0)
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, b"2", release=True, status="waiting")
    assert await bench.append(row, b"x") == Stale(2, 1)
    nowhere = msgspec.structs.replace(bench.change(row, b"x"), run=999_999)
    assert await bench.store.append([nowhere]) == [Stale(0, 0)]


async def a_repeat_recognises_itself(bench: Bench) -> None:
    """By its attempt: it succeeds without effect, also after the run was released or has ended."""
    worker = await bench.worker()
    for name, fields in (
        ("plain", {}),
        ("released", {"release": True, "status": "waiting", "wake_at": NOW + 9}),
        ("ended", {"status": "completed"}),
    ):
        row = await bench.make(name, owner=worker)
        change = bench.change(row, b"2", b"3", **fields)
        assert await bench.store.append([change]) == [Appended(3)]
        after = await bench.row(name)
        assert await bench.store.append([change]) == [Appended(3)]
        assert await bench.row(name) == after
        assert list(await bench.history(row)) == [b"first", b"2", b"3"]


async def a_repeat_after_a_takeover_has_no_effect(bench: Bench) -> None:
    """The new driver's ownership stands."""
    old, new = await bench.worker(), await bench.worker()
    row = await bench.make("r", owner=old)
    change = bench.change(row, release=True, status="waiting", wake_at=NOW)
    await bench.store.append([change])
    (taken,) = await bench.claim(new)
    assert await bench.store.append([change]) == [Appended(1)]
    assert await bench.row("r") == taken


async def a_repeat_in_one_batch_recognises_itself(bench: Bench) -> None:
    worker = await bench.worker()
    row, other = await bench.make("r", owner=worker), await bench.make("other", owner=worker)
    change = bench.change(row, b"2")
    batch = [change, bench.change(other, b"y"), change]
    assert await bench.store.append(batch) == [Appended(2), Appended(2), Appended(2)]
    assert await bench.store.append(batch[:2]) == [Appended(2), Appended(2)]
    assert list(await bench.history(row)) == [b"first", b"2"]


async def another_attempt_is_no_repeat(bench: Bench) -> None:
    """Even with the same content."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    assert await bench.append(row, b"2") == Appended(2)
    assert await bench.append(row, b"2") == Stale(2, 1)


async def a_stale_append_fails_alone(bench: Bench) -> None:
    """Wherever it stands in the batch; the others are written, and answers keep their order."""
    worker = await bench.worker()
    rows = [await bench.make(f"r{n}", owner=worker) for n in range(9)]
    for place in (0, 4, 8):
        rows = [await bench.row(row.id) for row in rows]
        batch = [bench.change(row, b"x", b"y") for row in rows]
        batch[place] = bench.change(rows[place], b"wrong", expected=77)
        answers = await bench.store.append(batch)
        for row, answer in zip(rows, answers, strict=True):
            expected = Stale(row.seq, 1) if row is rows[place] else Appended(row.seq + 2)
            assert answer == expected
    for row in rows:
        assert set(await bench.history(row)) == {b"first", b"x", b"y"}


async def a_wrong_epoch_fails_alone(bench: Bench) -> None:
    """In a batch of plain appends, and in one in which runs end, although the seq is right."""
    old, new = await bench.worker(), await bench.worker()
    before = [await bench.make(f"r{n}", owner=old) for n in range(6)]
    await bench.store.retire(old, now=NOW)
    taken = {row.id: row for row in await bench.claim(new)}
    late = ("r1", "r4")
    for seq, fields in ((1, {}), (2, {"status": "completed"})):
        rows = [row if row.id in late else await bench.row(row.id) for row in before]
        answers = await bench.store.append([bench.change(row, b"x", **fields) for row in rows])
        assert answers == [
            Stale(1, taken[row.id].epoch) if row.id in late else Appended(seq + 1) for row in rows
        ]
    for row in before:
        is_late = row.id in late
        assert list(await bench.history(row)) == ([b"first"] if is_late else [b"first", b"x", b"x"])
        assert (await bench.row(row.id)).status == ("running" if is_late else "completed")


async def events_of_a_batch_follow_on(bench: Bench) -> None:
    """Each run's own, however many it brings, over several batches."""
    worker = await bench.worker()
    rows = [await bench.make(f"r{n}", owner=worker) for n in range(4)]
    written: list[list[bytes]] = [[b"first"] for _ in rows]
    for turn in range(3):
        rows = [await bench.row(row.id) for row in rows]
        news = [[b"%d of %d in turn %d" % (m, n, turn) for m in range(n)] for n in range(len(rows))]
        await bench.store.append([bench.change(row, *new) for row, new in zip(rows, news, strict=True)])
        written = [old + new for old, new in zip(written, news, strict=True)]
    for row, events in zip(rows, written, strict=True):
        assert await bench.store.events(row.run) == list(enumerate(events, 1))
        assert (await bench.row(row.id)).seq == len(events)


async def one_run_can_be_appended_to_twice_in_a_batch(bench: Bench) -> None:
    """In order: the second goes on from the first, and is stale if it doesn't know of it."""
    worker = await bench.worker()
    row, other = await bench.make("r", owner=worker), await bench.make("other", owner=worker)
    _, *later = links(row.chain, [b"2", b"3", b"4", b"5"])
    answers = await bench.store.append(
        [
            bench.change(row, b"2"),
            bench.change(other, b"y"),
            bench.change(row, b"3", b"4", expected=2, links=later[:2]),
            bench.change(row, b"late", expected=2),
            bench.change(row, b"5", expected=4, links=later[2:]),
        ]
    )
    assert answers == [Appended(2), Appended(2), Appended(4), Stale(4, 1), Appended(5)]
    assert list(await bench.history(row)) == [b"first", b"2", b"3", b"4", b"5"]


async def appends_of_one_turn_are_all_answered(bench: Bench) -> None:
    """Many calls at once."""
    worker = await bench.worker()
    created = await bench.store.create([bench.new(f"r{n}", owner=worker) for n in range(200)])
    futures = [bench.store.append([bench.change(one.row, b"x")]) for one in created]
    assert await asyncio.gather(*futures) == [[Appended(2)]] * 200
    assert await bench.store.append([]) == []


async def a_cancelled_waiter_harms_nobody(bench: Bench) -> None:
    """The append is written all the same, and the other waiters get their answers."""
    worker = await bench.worker()
    rows = [await bench.make(name, owner=worker) for name in ("a", "b")]
    first, second = (bench.store.append([bench.change(row, b"x")]) for row in rows)
    first.cancel()
    assert await second == [Appended(2)]
    async with asyncio.timeout(10):  # appends of different runs needn't arrive in order
        while (await bench.row("a")).seq != 2:  # noqa: ASYNC110 - the row is in the database
            await asyncio.sleep(0.005)


async def a_state_can_change_without_events(bench: Bench) -> None:
    """status goes with reason and block_code; without a status all three stay."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, status="waiting", reason="for rain")
    assert (row.seq, row.status, row.reason, row.block_code) == (1, "waiting", "for rain", None)
    row = await bench.put(row, b"2", reason="ignored", block_code=BlockCode.CODE)
    assert (row.seq, row.status, row.reason, row.block_code) == (2, "waiting", "for rain", None)
    row = await bench.put(row, status="blocked", reason="no code", block_code=BlockCode.CODE, release=True)
    assert (row.status, row.reason, row.block_code, row.owner) == ("blocked", "no code", "code", None)


async def release_gives_the_run_up(bench: Bench) -> None:
    """wake_at says when it needs a driver again; the epoch stays."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, b"2", status="waiting", release=True, wake_at=NOW + 60)
    assert (row.owner, row.wake_at, row.epoch, row.status) == (None, NOW + 60, 1, "waiting")
    assert await bench.claim(worker, now=NOW + 59) == []
    (row,) = await bench.claim(worker, now=NOW + 60)
    row = await bench.put(row, release=True)
    assert (row.owner, row.wake_at, row.status) == (None, None, "running")


async def recording_something_clears_recoveries(bench: Bench) -> None:
    """An append without events doesn't."""
    row = await bench.make("r", owner=await bench.worker())
    for deaths in (1, 2):
        assert row.owner is not None
        await bench.store.bury(row.owner, LEASE, now=NOW, max_recoveries=9)
        (row,) = await bench.claim(await bench.worker(), suspected=NOW)
        assert row.recoveries == deaths
        row = await bench.put(row, status="running")
        assert row.recoveries == deaths
    row = await bench.put(row, b"progress")
    assert row.recoveries == 0


async def recording_in_a_batch_clears_recoveries(bench: Bench) -> None:
    """Of runs that have lost a driver; one of the batch has lost none, and one records nothing."""
    old, new = await bench.worker(), await bench.worker()
    for id in ("a", "b", "idle"):
        await bench.make(id, owner=old)
    await bench.store.bury(old, LEASE, now=NOW, max_recoveries=9)
    rows = [*await bench.claim(new), await bench.make("sound", owner=new)]
    assert [(row.id, row.recoveries) for row in rows] == [("a", 1), ("b", 1), ("idle", 1), ("sound", 0)]
    events = {"a": [b"2"], "b": [b"2", b"3"], "idle": [], "sound": [b"2"]}
    changes = [bench.change(row, *events[row.id]) for row in rows]
    answers = await bench.store.append(changes)
    assert answers == [Appended(1 + len(found)) for found in events.values()]
    assert [(await bench.row(row.id)).recoveries for row in rows] == [0, 0, 1, 0]
    assert await bench.store.append(changes) == answers, "a repeat recognises itself"


async def load_answers_in_order(bench: Bench) -> None:
    """Whole histories, in the order asked, also long ones."""
    worker = await bench.worker()
    short, long = await bench.make("short"), await bench.make("long", owner=worker)
    await bench.put(long, *(b"%d" % n for n in range(2, 2502)))
    first, second, third = await bench.store.load([long.run, short.run, long.run])
    assert (first.run, second.run) == (long.run, short.run)
    assert list(first.events) == [b"first", *(b"%d" % n for n in range(2, 2502))]
    assert list(second.events) == [b"first"]
    assert first == third
    assert list(second.mail) == []


async def the_chain_goes_on_with_each_append(bench: Bench) -> None:
    """From the run's origin over its first event to the newest one; a change of state leaves it."""
    row = await bench.make("r", owner=await bench.worker())
    assert row.chain == first_link("r", 1, b"first")
    chained = links(row.chain, [b"2", b"3", b"4"])
    row = await bench.put(row, b"2")
    assert row.chain == chained[0]
    row = await bench.put(row, b"3", b"4")
    assert row.chain == chained[-1]
    row = await bench.put(row, status="waiting", release=True)
    assert row.chain == chained[-1]
    (history,) = await bench.store.load([row.run])
    assert history.damage is None


async def a_run_with_other_links_is_damaged(bench: Bench) -> None:
    """What was recorded under links that don't fit is refused where it would be acted by, and nothing else is."""
    worker = await bench.worker()
    bad, good = await bench.make("bad", owner=worker), await bench.make("good", owner=worker)
    await bench.put(bad, b"2", links=[1])
    good = await bench.put(good, b"2")
    first, second = await bench.store.load([bad.run, good.run])
    assert second.damage is None
    assert first.damage is not None
    assert (first.damage.kind, first.damage.seq) == (DamageKind.CONTENT, 2)
    told, newest = await bench.store.last_event([bad.run, good.run])
    assert isinstance(told, Damage)
    assert newest == b"2"
    bench.sound = False


CHECKS: tuple[Check, ...] = (
    events_follow_on,
    bytes_come_back_as_they_were,
    a_wrong_seq_is_stale,
    a_wrong_epoch_is_stale,
    nobodys_run_takes_no_appends,
    a_repeat_recognises_itself,
    a_repeat_after_a_takeover_has_no_effect,
    a_repeat_in_one_batch_recognises_itself,
    another_attempt_is_no_repeat,
    a_stale_append_fails_alone,
    a_wrong_epoch_fails_alone,
    events_of_a_batch_follow_on,
    one_run_can_be_appended_to_twice_in_a_batch,
    appends_of_one_turn_are_all_answered,
    a_cancelled_waiter_harms_nobody,
    a_state_can_change_without_events,
    release_gives_the_run_up,
    recording_something_clears_recoveries,
    recording_in_a_batch_clears_recoveries,
    load_answers_in_order,
    the_chain_goes_on_with_each_append,
    a_run_with_other_links_is_damaged,
)
