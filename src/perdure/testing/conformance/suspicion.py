"""Runs that lost their drivers again and again: they are claimed apart, so that the guilty one is found."""

from __future__ import annotations

from perdure.core.queues import QueueSettings
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import LEASE, NOW, QUEUE, Bench, Check


async def _lost(bench: Bench, rows: list[RunRow], times: int) -> None:
    """These runs, which one worker owns, lose their drivers so often."""
    workflows = [row.workflow for row in rows]
    for death in range(1, times + 1):
        owner = rows[0].owner
        assert owner is not None
        await bench.store.bury(owner, LEASE, now=NOW, max_recoveries=99)
        if death < times:
            worker = await bench.worker()
            rows = []
            later = NOW
            while found := await bench.claim(worker, now=later, suspected=later, workflows=workflows):
                rows += found
                later += 1e6


async def _suspected(bench: Bench, *deaths: int) -> list[str]:
    """Runs of workflows of their own, each with so many deaths. Returns their names, and those of their workflows."""
    names = [f"w{place}" for place in range(len(deaths))]
    for name, times in zip(names, deaths, strict=True):
        await _lost(bench, [await bench.make(name, owner=await bench.worker(), workflow=name)], times)
    return names


async def suspected_runs_are_passed_over(bench: Bench) -> None:
    """One death doesn't matter, two in a row do; it is told since when such a run has waited."""
    once, twice = names = await _suspected(bench, 1, 2)
    worker = await bench.worker()
    claimed = await bench.store.claim(worker, workflows=names, queues=[QUEUE], now=NOW, limit=9)
    assert [row.id for row in claimed.rows] == [once]
    assert (claimed.next_at, claimed.suspected) == (None, NOW)
    again = await bench.store.claim(worker, workflows=names, queues=[QUEUE], now=NOW, limit=9)
    assert (list(again.rows), again.suspected) == ([], NOW)
    early = await bench.claim(worker, now=NOW + 9, suspected=NOW - 1, workflows=names)
    assert early == [], "it isn't overdue yet"
    (row,) = await bench.claim(worker, now=NOW + 9, suspected=NOW, workflows=names)
    assert (row.id, row.recoveries, row.owner, row.wake_at) == (twice, 2, worker, None)
    after = await bench.store.claim(worker, workflows=names, queues=[QUEUE], now=NOW, limit=9)
    assert after.suspected is None


async def the_most_suspected_are_claimed_alone(bench: Bench) -> None:
    """Not even together with what is above suspicion."""
    names = await _suspected(bench, 2, 5, 4, 1)
    worker = await bench.worker()
    found = [
        await bench.claim(worker, now=NOW + later, suspected=NOW + later, workflows=names)
        for later in (0, 9, 18, 27)
    ]
    assert [[row.id for row in rows] for rows in found] == [[names[place]] for place in (1, 2, 0, 3)]


async def one_worker_tries_at_a_time(bench: Bench) -> None:
    """Those that lost three drivers or more; the others go on with their work until its time is up."""
    names = await _suspected(bench, 3, 3)
    one, other = await bench.worker(), await bench.worker()
    (tried,) = await bench.claim(one, suspected=NOW, workflows=names[:1])
    assert await bench.claim(other, suspected=NOW, workflows=names) == []
    assert len(await bench.claim(other, now=NOW + 1, suspected=NOW + 1, workflows=names)) == 1
    await bench.put(tried, b"progress")


async def many_that_lost_few_are_claimed_together(bench: Bench) -> None:
    """As many as core.suspicion says: 64, then 8, then one."""
    owner = await bench.worker()
    await _lost(bench, [await bench.make(f"r{number}", owner=owner) for number in range(10)], 3)
    worker = await bench.worker()
    assert len(await bench.claim(worker, suspected=NOW, limit=5)) == 5
    assert len(await bench.claim(worker, now=NOW + 9, suspected=NOW + 9)) == 5
    await bench.store.bury(worker, LEASE, now=NOW, max_recoveries=99)
    worker = await bench.worker()
    assert len(await bench.claim(worker, suspected=NOW)) == 1


async def those_alike_take_turns(bench: Bench) -> None:
    """Else the same would always be tried first, and if the other one kills nobody would be sure."""
    owner = await bench.worker()
    await _lost(bench, [await bench.make(f"r{number}", owner=owner) for number in range(2)], 4)
    first: set[str] = set()
    for _ in range(40):
        workers = await bench.worker(), await bench.worker()
        (one,) = await bench.claim(workers[0], suspected=NOW)
        first.add(one.id)
        await bench.store.retire(workers[0], now=NOW)
        (one,) = await bench.claim(workers[1], suspected=NOW)
        first.add(one.id)
        await bench.store.retire(workers[1], now=NOW)
    assert first == {"r0", "r1"}


async def a_worker_takes_only_suspected_runs_that_it_can_drive(bench: Bench) -> None:
    names = await _suspected(bench, 3)
    worker = await bench.worker()
    assert await bench.claim(worker, suspected=NOW) == []
    assert await bench.claim(worker, suspected=NOW, workflows=names, queues=["other"]) == []
    assert await bench.claim(worker, suspected=NOW, workflows=names, limit=0) == []
    (row,) = await bench.claim(worker, suspected=NOW, workflows=names)
    assert row.recoveries == 3


async def suspected_runs_keep_to_the_limits_of_their_queue(bench: Bench) -> None:
    """They hold their slots; a worker takes no more than its queue lets it have."""
    await bench.store.queues.define(QUEUE, QueueSettings(concurrency=8, per_worker=2), now=NOW)
    owner = await bench.worker()
    for number in range(2):
        await bench.make(f"r{number}")
    rows = await bench.claim(owner)
    assert len(rows) == 2
    await _lost(bench, rows, 2)
    third = await bench.worker()
    await bench.make("new")
    assert [row.id for row in await bench.claim(third, limit=1)] == ["new"]
    (one,) = await bench.claim(third, suspected=NOW)
    assert one.recoveries == 2
    assert await bench.claim(third, suspected=NOW) == []
    await bench.store.queues.change(QUEUE, paused=True, now=NOW)
    assert await bench.claim(await bench.worker(), suspected=NOW) == []


async def a_run_that_is_handed_back_is_above_suspicion(bench: Bench) -> None:
    """It was driven, and did no harm."""
    names = await _suspected(bench, 3)
    (row,) = await bench.claim(await bench.worker(), suspected=NOW, workflows=names)
    row = await bench.put(row, status="waiting", release=True, wake_at=NOW + 5)
    assert row.recoveries == 0
    found = await bench.claim(await bench.worker(), now=NOW + 5, workflows=names)
    assert [row.id for row in found] == names


CHECKS: tuple[Check, ...] = (
    suspected_runs_are_passed_over,
    the_most_suspected_are_claimed_alone,
    one_worker_tries_at_a_time,
    many_that_lost_few_are_claimed_together,
    those_alike_take_turns,
    a_worker_takes_only_suspected_runs_that_it_can_drive,
    suspected_runs_keep_to_the_limits_of_their_queue,
    a_run_that_is_handed_back_is_above_suspicion,
)
