"""Queues with limits: who begins, who waits, and who holds slots until when."""

from __future__ import annotations

import asyncio

from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.core.status import Status
from perdure.storage.records import BlockCode, RunRow, Successor
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check
from perdure.testing.conformance.queue_kit import Q, claim, end, limit, look, make


async def a_limit_of_slots_holds(bench: Bench) -> None:
    """At most so many hold one, over all workers, and until they have ended."""
    await limit(bench, concurrency=3)
    await make(bench, *"abcde")
    one, other = await bench.worker(queues=[Q]), await bench.worker(queues=[Q])
    assert await claim(bench, one, limit=2) == ["a", "b"]
    claimed = await look(bench, other)
    assert [row.id for row in claimed.rows] == ["c"]
    assert (claimed.next_at, claimed.waits) == (None, True)
    assert await claim(bench, one) == []
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting")
    await bench.put(await bench.row("b"), b"x", release=True, status="blocked", block_code=BlockCode.STEP)
    assert await claim(bench, one) == []
    await end(bench, "c")
    assert await claim(bench, one) == ["d"]
    assert await bench.store.terminate("b", b"event", now=NOW) == "delivered"
    assert await claim(bench, one) == ["e"]
    assert (await look(bench, one)).waits is False


async def an_unknown_worker_gets_no_slot(bench: Bench) -> None:
    """One that was buried while it was about to claim; what it took would stay with nobody."""
    await limit(bench, concurrency=3)
    await make(bench, "a", "b")
    worker, other = await bench.worker(queues=[Q]), await bench.worker(queues=[Q])
    await bench.store.retire(worker, now=NOW)
    assert await claim(bench, worker) == []
    assert await claim(bench, other) == ["a", "b"]


async def a_slot_is_kept(bench: Bench) -> None:
    """Whoever has one is claimed again without room for others: after a wait, and when its worker has died."""
    await limit(bench, concurrency=1)
    await make(bench, "a", "b")
    one, other = await bench.worker(queues=[Q]), await bench.worker(queues=[Q])
    assert await claim(bench, one) == ["a"]
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW + 5)
    claimed = await look(bench, other)
    assert (list(claimed.rows), claimed.next_at) == ([], NOW + 5)
    assert await claim(bench, one, now=NOW + 5) == ["a"]
    (worker,) = [row for row in await bench.store.workers() if row.id == one]
    await bench.store.bury(one, worker.lease_until, now=NOW + 6, max_recoveries=3)
    assert await claim(bench, other, now=NOW + 6) == ["a"]
    assert await claim(bench, other, now=NOW + 6) == []


async def what_one_worker_has_is_limited(bench: Bench) -> None:
    """Also when it takes over what another has left; what it gives up counts no more."""
    await limit(bench, per_worker=2)
    await make(bench, *"abcde")
    one, other = await bench.worker(queues=[Q]), await bench.worker(queues=[Q])
    assert await claim(bench, one) == ["a", "b"]
    claimed = await look(bench, one)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    assert await claim(bench, other) == ["c", "d"]
    await bench.store.retire(one, now=NOW)
    claimed = await look(bench, other)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    await bench.put(await bench.row("c"), b"x", release=True, status="waiting", wake_at=NOW + 9)
    assert await claim(bench, other) == ["a"]
    await end(bench, "a", "d")
    assert await claim(bench, other) == ["b", "e"]


async def a_rate_holds(bench: Bench) -> None:
    """No more begin than it says, and a claim tells when the next may."""
    rate = Rate(4, per=60, burst=2)
    await limit(bench, rate=rate)
    await make(bench, *"abcdef")
    one, other = await bench.worker(queues=[Q]), await bench.worker(queues=[Q])
    assert await claim(bench, one) == ["a", "b"]
    claimed = await look(bench, other)
    assert list(claimed.rows) == []
    gap = rate.pace.interval / 1e6
    assert claimed.next_at is not None
    assert abs(claimed.next_at - NOW - gap) < 0.001
    assert await claim(bench, other, now=NOW + gap - 0.01) == []
    assert await claim(bench, other, now=claimed.next_at) == ["c"]
    await end(bench, "a", "b", "c")
    assert await claim(bench, other, now=claimed.next_at) == []
    assert await claim(bench, one, now=NOW + 600) == ["d", "e"]


async def a_paused_queue_gives_nothing(bench: Bench) -> None:
    """Neither new runs nor such as are due again, with or without limits; nor does it leave new ones to an owner."""
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", "b")
    assert await claim(bench, worker, limit=1) == ["a"]
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW)
    row = await bench.store.queues.change(Q, paused=True, now=NOW)
    assert (row.paused, row.limited) == (True, False)
    claimed = await look(bench, worker)
    assert (list(claimed.rows), claimed.next_at) == ([], None)
    await make(bench, "c", owner=worker)
    assert (await bench.row("c")).owner is None
    await bench.make("elsewhere", owner=worker)
    assert (await bench.row("elsewhere")).owner == worker
    await limit(bench, concurrency=2)
    assert await claim(bench, worker) == []
    await bench.store.queues.change(Q, paused=False, now=NOW)
    assert sorted(await claim(bench, worker)) == ["a", "b"]


async def a_draining_queue_begins_nothing(bench: Bench) -> None:
    """What holds a slot goes on."""
    await limit(bench, concurrency=5)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a")
    assert await claim(bench, worker) == ["a"]
    await make(bench, "b")
    await bench.store.queues.change(Q, draining=True, now=NOW)
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW)
    assert await claim(bench, worker) == ["a"]
    await end(bench, "a")
    assert await claim(bench, worker) == []
    await bench.store.queues.change(Q, draining=False, now=NOW)
    assert await claim(bench, worker) == ["b"]


async def limits_leave_no_run_to_an_owner(bench: Bench) -> None:
    """A new run stands in line, also a child; the next generation of one with a slot has that slot and an owner."""
    await limit(bench, concurrency=1)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", owner=worker)
    row = await bench.row("a")
    assert (row.owner, row.epoch, row.status) == (None, 0, Status.QUEUED)
    assert await claim(bench, worker) == ["a"]
    child = bench.new("a/child", queue=Q, owner=worker, parent_op="op")
    answer = await bench.append(await bench.row("a"), b"x", children=[child])
    assert answer.children[0][1] == 0  # type: ignore[union-attr]
    following = bench.new("a", queue=Q, owner=worker, generation=2)
    await bench.put(await bench.row("a"), b"end", status="continued", successor=Successor(following))
    row = await bench.row("a")
    assert (row.generation, row.owner) == (2, worker)
    assert await claim(bench, worker) == []
    await end(bench, "a")
    # a restart is a new start
    (made,) = await bench.store.create([bench.new("a", queue=Q, owner=worker, follows=row.run, generation=3)])
    assert made.new
    assert made.row.owner is None
    assert await claim(bench, worker) == ["a/child"]


async def keys_and_priorities_go_over(bench: Bench) -> None:
    """To the next generation, unless that is given others."""
    await limit(bench, concurrency=1, priority=True, per_key=1)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", priority=3, key="k")
    assert await claim(bench, worker) == ["a"]
    following = bench.new("a", queue=Q, owner=worker, generation=2)
    await bench.put(await bench.row("a"), b"end", status="continued", successor=Successor(following))
    standing = await bench.store.queues.standing((await bench.row("a")).run)
    assert standing is not None
    assert (standing.key, standing.priority, standing.slot, standing.in_line) == ("k", 3, True, False)


async def limits_come_to_queues_in_use(bench: Bench) -> None:
    """What goes on there counts from then on, as far as it has begun; the rest stands in line, by key and priority."""
    worker = await bench.worker(queues=[Q])
    await make(bench, *"abc")
    assert await claim(bench, worker, limit=2) == ["a", "b"]
    await bench.put(await bench.row("b"), b"x", release=True, status="waiting")
    await make(bench, "d", priority=1)
    await make(bench, "late", wake_at=NOW + 7, priority=9)
    before = await bench.store.queues.define(Q, QueueSettings(concurrency=3, priority=True), now=NOW)
    assert before is None
    assert await claim(bench, worker) == ["d"]
    await end(bench, "a")
    assert await claim(bench, worker) == ["c"]
    await end(bench, "c")
    assert await claim(bench, worker, now=NOW + 7) == ["late"]
    # without limits its line goes on as one
    before = await bench.store.queues.define(Q, QueueSettings(), now=NOW)
    assert before == QueueSettings(concurrency=3, priority=True)
    await make(bench, "e", "f", owner=worker)
    assert await claim(bench, worker) == ["e", "f"]


async def operators_overrule_code(bench: Bench) -> None:
    """Until they take it back."""
    await limit(bench, concurrency=5, priority=True)
    row = await bench.store.queues.change(Q, overrides={"concurrency": 1}, now=NOW)
    assert row.settings == QueueSettings(concurrency=1, priority=True)
    await limit(bench, concurrency=7)
    (row,) = await bench.store.queues.all()
    assert (row.name, row.settings, row.overrides) == (Q, QueueSettings(concurrency=1), {"concurrency": 1})
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", "b")
    assert await claim(bench, worker) == ["a"]
    row = await bench.store.queues.change(Q, overrides={}, now=NOW)
    assert row.settings == QueueSettings(concurrency=7)
    assert await claim(bench, worker) == ["b"]


async def racing_workers_keep_to_limits(bench: Bench) -> None:
    """Whichever stores they use."""
    await limit(bench, concurrency=20, per_key=2, rate=Rate(1000, per=1))
    other = await bench.another()
    for n in range(8):
        await make(bench, *(f"{n}-{m}" for m in range(10)), key=f"k{n}")
    workers = [await bench.worker(queues=[Q]) for _ in range(4)]
    claims = await asyncio.gather(
        *(
            store.claim(worker, workflows=[WORKFLOW], queues=[Q], now=NOW, limit=5)
            for worker, store in zip(workers, [bench.store, other] * 2, strict=True)
            for _ in range(3)
        )
    )
    rows: list[RunRow] = [row for claimed in claims for row in claimed.rows]
    assert len({row.id for row in rows}) == len(rows) == 16


async def queues_are_counted(bench: Bench) -> None:
    """How many wait, how many will, how many hold slots."""
    await limit(bench, concurrency=2)
    worker = await bench.worker(queues=[Q, "plain"])
    await make(bench, "a", "b", "c", wake_at=NOW - 3)
    await make(bench, "late", wake_at=NOW + 5)
    await bench.make("p", queue="plain", owner=worker)
    await bench.make("p2", queue="plain", wake_at=NOW - 1)
    assert len(await claim(bench, worker)) == 2
    plain, ours = await bench.store.queues.counts(now=NOW)
    assert (plain.name, plain.queued, plain.later, plain.held, plain.driven) == ("plain", 1, 0, None, 1)
    assert plain.oldest == NOW - 1
    assert (ours.name, ours.queued, ours.later, ours.held, ours.driven) == (Q, 1, 1, 2, 2)
    assert ours.oldest == NOW - 3


CHECKS: tuple[Check, ...] = (
    a_limit_of_slots_holds,
    an_unknown_worker_gets_no_slot,
    a_slot_is_kept,
    what_one_worker_has_is_limited,
    a_rate_holds,
    a_paused_queue_gives_nothing,
    a_draining_queue_begins_nothing,
    limits_leave_no_run_to_an_owner,
    keys_and_priorities_go_over,
    limits_come_to_queues_in_use,
    operators_overrule_code,
    racing_workers_keep_to_limits,
    queues_are_counted,
)
