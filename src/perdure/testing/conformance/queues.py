"""Queues with limits: who begins, who waits, and who holds slots until when."""

from __future__ import annotations

import asyncio

from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.core.status import Status
from perdure.storage.records import BlockCode, Claimed, RunRow, Successor
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check

_Q = "q"


async def _limit(bench: Bench, **limits: object) -> None:
    await bench.store.queues.define(_Q, QueueSettings(**limits), now=NOW)  # type: ignore[arg-type]


async def _make(bench: Bench, *ids: str, **fields: object) -> None:
    await bench.store.create([bench.new(id, queue=_Q, **fields) for id in ids])


async def _claimed(bench: Bench, worker: int, limit: int = 100, now: float = NOW) -> Claimed:
    return await bench.store.claim(worker, workflows=[WORKFLOW], queues=[_Q], now=now, limit=limit)


async def _claim(bench: Bench, worker: int, limit: int = 100, now: float = NOW) -> list[str]:
    return [row.id for row in (await _claimed(bench, worker, limit, now)).rows]


async def _end(bench: Bench, *ids: str) -> None:
    for id in ids:
        await bench.put(await bench.row(id), b"end", status="completed")


async def a_limit_of_slots_holds(bench: Bench) -> None:
    """At most so many hold one, over all workers, and until they have ended."""
    await _limit(bench, concurrency=3)
    await _make(bench, *"abcde")
    one, other = await bench.worker(queues=[_Q]), await bench.worker(queues=[_Q])
    assert await _claim(bench, one, limit=2) == ["a", "b"]
    claimed = await _claimed(bench, other)
    assert [row.id for row in claimed.rows] == ["c"]
    assert (claimed.next_at, claimed.waits) == (None, True)
    assert await _claim(bench, one) == []
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting")
    await bench.put(await bench.row("b"), b"x", release=True, status="blocked", block_code=BlockCode.STEP)
    assert await _claim(bench, one) == []
    await _end(bench, "c")
    assert await _claim(bench, one) == ["d"]
    assert await bench.store.terminate("b", b"event", now=NOW) == "delivered"
    assert await _claim(bench, one) == ["e"]
    assert (await _claimed(bench, one)).waits is False


async def a_slot_is_kept(bench: Bench) -> None:
    """Whoever has one is claimed again without room for others: after a wait, and when its worker has died."""
    await _limit(bench, concurrency=1)
    await _make(bench, "a", "b")
    one, other = await bench.worker(queues=[_Q]), await bench.worker(queues=[_Q])
    assert await _claim(bench, one) == ["a"]
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW + 5)
    claimed = await _claimed(bench, other)
    assert (list(claimed.rows), claimed.next_at) == ([], NOW + 5)
    assert await _claim(bench, one, now=NOW + 5) == ["a"]
    (worker,) = [row for row in await bench.store.workers() if row.id == one]
    await bench.store.bury(one, worker.lease_until, now=NOW + 6, max_recoveries=3)
    assert await _claim(bench, other, now=NOW + 6) == ["a"]
    assert await _claim(bench, other, now=NOW + 6) == []


async def what_one_worker_has_is_limited(bench: Bench) -> None:
    """Also when it takes over what another has left; what it gives up counts no more."""
    await _limit(bench, per_worker=2)
    await _make(bench, *"abcde")
    one, other = await bench.worker(queues=[_Q]), await bench.worker(queues=[_Q])
    assert await _claim(bench, one) == ["a", "b"]
    claimed = await _claimed(bench, one)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    assert await _claim(bench, other) == ["c", "d"]
    await bench.store.retire(one, now=NOW)
    claimed = await _claimed(bench, other)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    await bench.put(await bench.row("c"), b"x", release=True, status="waiting", wake_at=NOW + 9)
    assert await _claim(bench, other) == ["a"]
    await _end(bench, "a", "d")
    assert await _claim(bench, other) == ["b", "e"]


async def a_rate_holds(bench: Bench) -> None:
    """No more begin than it says, and a claim tells when the next may."""
    rate = Rate(4, per=60, burst=2)
    await _limit(bench, rate=rate)
    await _make(bench, *"abcdef")
    one, other = await bench.worker(queues=[_Q]), await bench.worker(queues=[_Q])
    assert await _claim(bench, one) == ["a", "b"]
    claimed = await _claimed(bench, other)
    assert list(claimed.rows) == []
    gap = rate.pace.interval / 1e6
    assert claimed.next_at is not None
    assert abs(claimed.next_at - NOW - gap) < 0.001
    assert await _claim(bench, other, now=NOW + gap - 0.01) == []
    assert await _claim(bench, other, now=claimed.next_at) == ["c"]
    await _end(bench, "a", "b", "c")
    assert await _claim(bench, other, now=claimed.next_at) == []
    assert await _claim(bench, one, now=NOW + 600) == ["d", "e"]


async def priorities_count_where_they_are_heeded(bench: Bench) -> None:
    """The highest first, of equals the longest due; elsewhere only the latter."""
    worker = await bench.worker(queues=[_Q])
    await _limit(bench, concurrency=3)
    for place, priority in enumerate((0, 5, -3, 5)):
        await _make(bench, f"plain-{priority}-{place}", priority=priority, wake_at=NOW - 9 + place)
    assert await _claim(bench, worker, limit=2) == ["plain-0-0", "plain-5-1"]
    await _limit(bench, concurrency=100, priority=True)
    for place, priority in enumerate((0, 7, -3, 5)):
        await _make(bench, f"new-{priority}-{place}", priority=priority, wake_at=NOW - 5 + place)
    assert await _claim(bench, worker) == [
        "new-7-1", "plain-5-3", "new-5-3", "new-0-0", "plain--3-2", "new--3-2",
    ]  # fmt: skip


async def a_limit_for_each_key_holds(bench: Bench) -> None:
    """Runs without a key aren't limited by it. Those that may begin do, however many others are before them."""
    await _limit(bench, per_key=1)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a1", "a2", "a3", key="a")
    await _make(bench, "b1", "b2", key="b", wake_at=NOW - 5)
    await _make(bench, "n1", "n2")
    assert sorted(await _claim(bench, worker)) == ["a1", "b1", "n1", "n2"]
    claimed = await _claimed(bench, worker)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    await _end(bench, "b1")
    assert await _claim(bench, worker) == ["b2"]
    await _make(bench, "c1", "c2", key="c")
    assert await _claim(bench, worker) == ["c1"]


async def without_fairness_the_longest_due_come_first(bench: Bench) -> None:
    """Of those whose keys have room."""
    await _limit(bench, per_key=1)
    worker = await bench.worker(queues=[_Q])
    for place, key in enumerate("dacb"):
        await _make(bench, f"{key}1", f"{key}2", key=key, wake_at=NOW - 9 + place)
    assert await _claim(bench, worker, limit=3) == ["d1", "a1", "c1"]
    assert await _claim(bench, worker, limit=3) == ["b1"]


async def keys_take_turns(bench: Bench) -> None:
    """With fairness those with the fewest slots come first, then each in turn, whenever its runs were started."""
    await _limit(bench, fairness="key", concurrency=4)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, *(f"a{n}" for n in range(9)), key="a", wake_at=NOW - 50)
    await _make(bench, "b0", "b1", key="b")
    await _make(bench, "c0", key="c")
    assert sorted(await _claim(bench, worker)) == ["a0", "a1", "b0", "c0"]
    await _end(bench, "c0")
    assert await _claim(bench, worker) == ["b1"]  # a has two
    await _end(bench, "b0", "b1")
    assert await _claim(bench, worker) == ["a2", "a3"]
    await _make(bench, "d0", key="d")
    await _make(bench, "0")
    await _end(bench, "a0", "a1")
    assert sorted(await _claim(bench, worker)) == ["0", "d0"]


async def turns_go_round(bench: Bench) -> None:
    """One after the other, also if only one begins at a time and ends before the next."""
    await _limit(bench, fairness="key", concurrency=1)
    worker = await bench.worker(queues=[_Q])
    for key in "cab":
        await _make(bench, f"{key}1", f"{key}2", f"{key}3", key=key)
    begun: list[str] = []
    for _ in range(9):
        (id,) = await _claim(bench, worker)
        begun.append(id)
        await _end(bench, id)
    assert sorted(begun[:3]) == ["a1", "b1", "c1"]
    assert sorted(begun[3:6]) == ["a2", "b2", "c2"]


async def priority_comes_before_fairness(bench: Bench) -> None:
    """Keys take turns among runs of one priority."""
    await _limit(bench, fairness="key", priority=True, concurrency=5)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a1", "a2", "a3", key="a", priority=1)
    await _make(bench, "b1", "b2", key="b")
    await _make(bench, "c1", key="c")
    assert await _claim(bench, worker, limit=3) == ["a1", "a2", "a3"]
    assert sorted(await _claim(bench, worker)) == ["b1", "c1"]


async def delays_come_before_the_line(bench: Bench) -> None:
    """Who is started with a delay stands in line from then on, and the next moment is told."""
    await _limit(bench, concurrency=9, priority=True, fairness="key")
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "later", wake_at=NOW + 10, priority=99, key="k")
    await _make(bench, "now")
    claimed = await _claimed(bench, worker)
    assert [row.id for row in claimed.rows] == ["now"]
    assert claimed.next_at == NOW + 10
    assert await _claim(bench, worker, now=NOW + 10) == ["later"]


async def a_pause_keeps_a_place(bench: Bench) -> None:
    """A run that is paused in line, or cancelled there, doesn't begin out of turn."""
    await _limit(bench, concurrency=1)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", "b", "c")
    assert await _claim(bench, worker) == ["a"]
    await bench.store.pauses.pause("b", b"pause", reason=None, now=NOW)
    await bench.store.send("c", b"cancel", now=NOW)
    assert await _claim(bench, worker) == []
    await _end(bench, "a")
    assert await _claim(bench, worker) == ["c"]
    await _end(bench, "c")
    assert await _claim(bench, worker) == []
    await bench.store.pauses.resume("b", b"resume", now=NOW)
    assert await _claim(bench, worker) == ["b"]


async def a_paused_queue_gives_nothing(bench: Bench) -> None:
    """Neither new runs nor such as are due again, with or without limits; nor does it leave new ones to an owner."""
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", "b")
    assert await _claim(bench, worker, limit=1) == ["a"]
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW)
    row = await bench.store.queues.change(_Q, paused=True, now=NOW)
    assert (row.paused, row.limited) == (True, False)
    claimed = await _claimed(bench, worker)
    assert (list(claimed.rows), claimed.next_at) == ([], None)
    await _make(bench, "c", owner=worker)
    assert (await bench.row("c")).owner is None
    await bench.make("elsewhere", owner=worker)
    assert (await bench.row("elsewhere")).owner == worker
    await _limit(bench, concurrency=2)
    assert await _claim(bench, worker) == []
    await bench.store.queues.change(_Q, paused=False, now=NOW)
    assert sorted(await _claim(bench, worker)) == ["a", "b"]


async def a_draining_queue_begins_nothing(bench: Bench) -> None:
    """What holds a slot goes on."""
    await _limit(bench, concurrency=5)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a")
    assert await _claim(bench, worker) == ["a"]
    await _make(bench, "b")
    await bench.store.queues.change(_Q, draining=True, now=NOW)
    await bench.put(await bench.row("a"), b"x", release=True, status="waiting", wake_at=NOW)
    assert await _claim(bench, worker) == ["a"]
    await _end(bench, "a")
    assert await _claim(bench, worker) == []
    await bench.store.queues.change(_Q, draining=False, now=NOW)
    assert await _claim(bench, worker) == ["b"]


async def limits_leave_no_run_to_an_owner(bench: Bench) -> None:
    """A new run stands in line, also a child; the next generation of one with a slot has that slot and an owner."""
    await _limit(bench, concurrency=1)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", owner=worker)
    row = await bench.row("a")
    assert (row.owner, row.epoch, row.status) == (None, 0, Status.QUEUED)
    assert await _claim(bench, worker) == ["a"]
    child = bench.new("a/child", queue=_Q, owner=worker, parent_op="op")
    answer = await bench.append(await bench.row("a"), b"x", children=[child])
    assert answer.children[0][1] == 0  # type: ignore[union-attr]
    following = bench.new("a", queue=_Q, owner=worker, generation=2)
    await bench.put(await bench.row("a"), b"end", status="continued", successor=Successor(following))
    row = await bench.row("a")
    assert (row.generation, row.owner) == (2, worker)
    assert await _claim(bench, worker) == []
    await _end(bench, "a")
    # a restart is a new start
    (made,) = await bench.store.create(
        [bench.new("a", queue=_Q, owner=worker, follows=row.run, generation=3)]
    )
    assert made.new
    assert made.row.owner is None
    assert await _claim(bench, worker) == ["a/child"]


async def keys_and_priorities_go_over(bench: Bench) -> None:
    """To the next generation, unless that is given others."""
    await _limit(bench, concurrency=1, priority=True, per_key=1)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", priority=3, key="k")
    assert await _claim(bench, worker) == ["a"]
    following = bench.new("a", queue=_Q, owner=worker, generation=2)
    await bench.put(await bench.row("a"), b"end", status="continued", successor=Successor(following))
    standing = await bench.store.queues.standing((await bench.row("a")).run)
    assert standing is not None
    assert (standing.key, standing.priority, standing.slot, standing.in_line) == ("k", 3, True, False)


async def limits_come_to_queues_in_use(bench: Bench) -> None:
    """What goes on there counts from then on, as far as it has begun; the rest stands in line, by key and priority."""
    worker = await bench.worker(queues=[_Q])
    await _make(bench, *"abc")
    assert await _claim(bench, worker, limit=2) == ["a", "b"]
    await bench.put(await bench.row("b"), b"x", release=True, status="waiting")
    await _make(bench, "d", priority=1)
    await _make(bench, "late", wake_at=NOW + 7, priority=9)
    before = await bench.store.queues.define(_Q, QueueSettings(concurrency=3, priority=True), now=NOW)
    assert before is None
    assert await _claim(bench, worker) == ["d"]
    await _end(bench, "a")
    assert await _claim(bench, worker) == ["c"]
    await _end(bench, "c")
    assert await _claim(bench, worker, now=NOW + 7) == ["late"]
    # without limits its line goes on as one
    before = await bench.store.queues.define(_Q, QueueSettings(), now=NOW)
    assert before == QueueSettings(concurrency=3, priority=True)
    await _make(bench, "e", "f", owner=worker)
    assert await _claim(bench, worker) == ["e", "f"]


async def operators_overrule_code(bench: Bench) -> None:
    """Until they take it back."""
    await _limit(bench, concurrency=5, priority=True)
    row = await bench.store.queues.change(_Q, overrides={"concurrency": 1}, now=NOW)
    assert row.settings == QueueSettings(concurrency=1, priority=True)
    await _limit(bench, concurrency=7)
    (row,) = await bench.store.queues.all()
    assert (row.name, row.settings, row.overrides) == (_Q, QueueSettings(concurrency=1), {"concurrency": 1})
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", "b")
    assert await _claim(bench, worker) == ["a"]
    row = await bench.store.queues.change(_Q, overrides={}, now=NOW)
    assert row.settings == QueueSettings(concurrency=7)
    assert await _claim(bench, worker) == ["b"]


async def who_is_in_line_is_stranded_like_others(bench: Bench) -> None:
    """For want of a worker that knows its workflow; it keeps its place."""
    await _limit(bench, concurrency=1)
    await bench.worker(queues=[_Q], workflows=["other"])
    await _make(bench, "a", "b")
    await _make(bench, "late", wake_at=NOW + 5)
    assert await bench.store.strand(now=NOW) == 2
    assert (await bench.row("a")).status == "blocked"
    assert await bench.store.strand(now=NOW + 5) == 1
    worker = await bench.worker(queues=[_Q])
    assert len(await _claim(bench, worker, now=NOW + 5)) == 1
    assert await _claim(bench, worker, now=NOW + 5) == []


async def racing_workers_keep_to_limits(bench: Bench) -> None:
    """Whichever stores they use."""
    await _limit(bench, concurrency=20, per_key=2, rate=Rate(1000, per=1))
    other = await bench.another()
    for n in range(8):
        await _make(bench, *(f"{n}-{m}" for m in range(10)), key=f"k{n}")
    workers = [await bench.worker(queues=[_Q]) for _ in range(4)]
    claims = await asyncio.gather(
        *(
            store.claim(worker, workflows=[WORKFLOW], queues=[_Q], now=NOW, limit=5)
            for worker, store in zip(workers, [bench.store, other] * 2, strict=True)
            for _ in range(3)
        )
    )
    rows: list[RunRow] = [row for claimed in claims for row in claimed.rows]
    assert len({row.id for row in rows}) == len(rows) == 16


async def queues_are_counted(bench: Bench) -> None:
    """How many wait, how many will, how many hold slots."""
    await _limit(bench, concurrency=2)
    worker = await bench.worker(queues=[_Q, "plain"])
    await _make(bench, "a", "b", "c", wake_at=NOW - 3)
    await _make(bench, "late", wake_at=NOW + 5)
    await bench.make("p", queue="plain", owner=worker)
    await bench.make("p2", queue="plain", wake_at=NOW - 1)
    assert len(await _claim(bench, worker)) == 2
    plain, ours = await bench.store.queues.counts(now=NOW)
    assert (plain.name, plain.queued, plain.later, plain.held, plain.driven) == ("plain", 1, 0, None, 1)
    assert plain.oldest == NOW - 1
    assert (ours.name, ours.queued, ours.later, ours.held, ours.driven) == (_Q, 1, 1, 2, 2)
    assert ours.oldest == NOW - 3


async def a_place_is_explained(bench: Bench) -> None:
    """How many are before a run, and who holds the slots."""
    await _limit(bench, concurrency=2, per_key=1)
    worker = await bench.worker(queues=[_Q])
    await _make(bench, "a", key="k")
    await _make(bench, "b", "c", key="k", wake_at=NOW + 1)
    await _make(bench, "n")
    assert sorted(await _claim(bench, worker)) == ["a", "n"]
    await _claim(bench, worker, now=NOW + 2)
    standing = await bench.store.queues.standing((await bench.row("c")).run)
    assert standing is not None
    assert (standing.in_line, standing.slot, standing.later, standing.ahead) == (True, False, False, 1)
    assert (standing.held, standing.held_by_key, list(standing.holders)) == (2, 1, ["a"])
    assert standing.queue is not None
    assert standing.queue.settings == QueueSettings(concurrency=2, per_key=1)
    holder = await bench.store.queues.standing((await bench.row("a")).run)
    assert holder is not None
    assert (holder.in_line, holder.slot) == (False, True)
    plain = await bench.make("plain")
    standing = await bench.store.queues.standing(plain.run)
    assert standing is not None
    assert (standing.queue, standing.in_line, standing.slot) == (None, False, False)
    assert await bench.store.queues.standing(-5) is None


CHECKS: tuple[Check, ...] = (
    a_limit_of_slots_holds,
    a_slot_is_kept,
    what_one_worker_has_is_limited,
    a_rate_holds,
    priorities_count_where_they_are_heeded,
    a_limit_for_each_key_holds,
    without_fairness_the_longest_due_come_first,
    keys_take_turns,
    turns_go_round,
    priority_comes_before_fairness,
    delays_come_before_the_line,
    a_pause_keeps_a_place,
    a_paused_queue_gives_nothing,
    a_draining_queue_begins_nothing,
    limits_leave_no_run_to_an_owner,
    keys_and_priorities_go_over,
    limits_come_to_queues_in_use,
    operators_overrule_code,
    who_is_in_line_is_stranded_like_others,
    racing_workers_keep_to_limits,
    queues_are_counted,
    a_place_is_explained,
)
