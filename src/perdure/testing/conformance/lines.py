"""The order of a queue's line: priorities, keys, turns, delays."""

from __future__ import annotations

from perdure.core.queues import QueueSettings
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.queue_kit import Q, claim, end, limit, look, make


async def priorities_count_where_they_are_heeded(bench: Bench) -> None:
    """The highest first, of equals the longest due; elsewhere only the latter."""
    worker = await bench.worker(queues=[Q])
    await limit(bench, concurrency=3)
    for place, priority in enumerate((0, 5, -3, 5)):
        await make(bench, f"plain-{priority}-{place}", priority=priority, wake_at=NOW - 9 + place)
    assert await claim(bench, worker, limit=2) == ["plain-0-0", "plain-5-1"]
    await limit(bench, concurrency=100, priority=True)
    for place, priority in enumerate((0, 7, -3, 5)):
        await make(bench, f"new-{priority}-{place}", priority=priority, wake_at=NOW - 5 + place)
    assert await claim(bench, worker) == [
        "new-7-1", "plain-5-3", "new-5-3", "new-0-0", "plain--3-2", "new--3-2",
    ]  # fmt: skip


async def a_limit_for_each_key_holds(bench: Bench) -> None:
    """Runs without a key aren't limited by it. Those that may begin do, however many others are before them."""
    await limit(bench, per_key=1)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a1", "a2", "a3", key="a")
    await make(bench, "b1", "b2", key="b", wake_at=NOW - 5)
    await make(bench, "n1", "n2")
    assert sorted(await claim(bench, worker)) == ["a1", "b1", "n1", "n2"]
    claimed = await look(bench, worker)
    assert (list(claimed.rows), claimed.next_at, claimed.waits) == ([], None, True)
    await end(bench, "b1")
    assert await claim(bench, worker) == ["b2"]
    await make(bench, "c1", "c2", key="c")
    assert await claim(bench, worker) == ["c1"]


async def without_fairness_the_longest_due_come_first(bench: Bench) -> None:
    """Of those whose keys have room."""
    await limit(bench, per_key=1)
    worker = await bench.worker(queues=[Q])
    for place, key in enumerate("dacb"):
        await make(bench, f"{key}1", f"{key}2", key=key, wake_at=NOW - 9 + place)
    assert await claim(bench, worker, limit=3) == ["d1", "a1", "c1"]
    assert await claim(bench, worker, limit=3) == ["b1"]


async def keys_take_turns(bench: Bench) -> None:
    """With fairness those with the fewest slots come first, then each in turn, whenever its runs were started."""
    await limit(bench, fairness="key", concurrency=4)
    worker = await bench.worker(queues=[Q])
    await make(bench, *(f"a{n}" for n in range(9)), key="a", wake_at=NOW - 50)
    await make(bench, "b0", "b1", key="b")
    await make(bench, "c0", key="c")
    assert sorted(await claim(bench, worker)) == ["a0", "a1", "b0", "c0"]
    await end(bench, "c0")
    assert await claim(bench, worker) == ["b1"]  # a has two
    await end(bench, "b0", "b1")
    assert await claim(bench, worker) == ["a2", "a3"]
    await make(bench, "d0", key="d")
    await make(bench, "0")
    await end(bench, "a0", "a1")
    assert sorted(await claim(bench, worker)) == ["0", "d0"]


async def turns_go_round(bench: Bench) -> None:
    """One after the other, also if only one begins at a time and ends before the next."""
    await limit(bench, fairness="key", concurrency=1)
    worker = await bench.worker(queues=[Q])
    for key in "cab":
        await make(bench, f"{key}1", f"{key}2", f"{key}3", key=key)
    begun: list[str] = []
    for _ in range(9):
        (id,) = await claim(bench, worker)
        begun.append(id)
        await end(bench, id)
    assert sorted(begun[:3]) == ["a1", "b1", "c1"]
    assert sorted(begun[3:6]) == ["a2", "b2", "c2"]


async def priority_comes_before_fairness(bench: Bench) -> None:
    """Keys take turns among runs of one priority."""
    await limit(bench, fairness="key", priority=True, concurrency=5)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a1", "a2", "a3", key="a", priority=1)
    await make(bench, "b1", "b2", key="b")
    await make(bench, "c1", key="c")
    assert await claim(bench, worker, limit=3) == ["a1", "a2", "a3"]
    assert sorted(await claim(bench, worker)) == ["b1", "c1"]


async def delays_come_before_the_line(bench: Bench) -> None:
    """Who is started with a delay stands in line from then on, and the next moment is told."""
    await limit(bench, concurrency=9, priority=True, fairness="key")
    worker = await bench.worker(queues=[Q])
    await make(bench, "later", wake_at=NOW + 10, priority=99, key="k")
    await make(bench, "now")
    claimed = await look(bench, worker)
    assert [row.id for row in claimed.rows] == ["now"]
    assert claimed.next_at == NOW + 10
    assert await claim(bench, worker, now=NOW + 10) == ["later"]


async def a_pause_keeps_a_place(bench: Bench) -> None:
    """A run that is paused in line, or cancelled there, doesn't begin out of turn."""
    await limit(bench, concurrency=1)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", "b", "c")
    assert await claim(bench, worker) == ["a"]
    await bench.store.pauses.pause("b", b"pause", reason=None, now=NOW)
    await bench.store.send("c", b"cancel", now=NOW)
    assert await claim(bench, worker) == []
    await end(bench, "a")
    assert await claim(bench, worker) == ["c"]
    await end(bench, "c")
    assert await claim(bench, worker) == []
    await bench.store.pauses.resume("b", b"resume", now=NOW)
    assert await claim(bench, worker) == ["b"]


async def who_is_in_line_is_stranded_like_others(bench: Bench) -> None:
    """For want of a worker that knows its workflow; it keeps its place."""
    await limit(bench, concurrency=1)
    await bench.worker(queues=[Q], workflows=["other"])
    await make(bench, "a", "b")
    await make(bench, "late", wake_at=NOW + 5)
    assert await bench.store.strand(now=NOW) == 2
    assert (await bench.row("a")).status == "blocked"
    assert await bench.store.strand(now=NOW + 5) == 1
    worker = await bench.worker(queues=[Q])
    assert len(await claim(bench, worker, now=NOW + 5)) == 1
    assert await claim(bench, worker, now=NOW + 5) == []


async def a_place_is_explained(bench: Bench) -> None:
    """How many are before a run, and who holds the slots."""
    await limit(bench, concurrency=2, per_key=1)
    worker = await bench.worker(queues=[Q])
    await make(bench, "a", key="k")
    await make(bench, "b", "c", key="k", wake_at=NOW + 1)
    await make(bench, "n")
    assert sorted(await claim(bench, worker)) == ["a", "n"]
    await claim(bench, worker, now=NOW + 2)
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
    priorities_count_where_they_are_heeded,
    a_limit_for_each_key_holds,
    without_fairness_the_longest_due_come_first,
    keys_take_turns,
    turns_go_round,
    priority_comes_before_fairness,
    delays_come_before_the_line,
    a_pause_keeps_a_place,
    who_is_in_line_is_stranded_like_others,
    a_place_is_explained,
)
