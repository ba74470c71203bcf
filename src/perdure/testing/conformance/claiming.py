"""Claiming: how a run comes to the worker that drives it."""

from __future__ import annotations

import asyncio

from perdure.storage.records import BlockCode
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check


async def a_claim_makes_an_owner(bench: Bench) -> None:
    """In the next epoch, status running, started_at if it had none; the rows show all that."""
    worker = await bench.worker()
    made = await bench.make("r")
    (row,) = await bench.claim(worker, now=NOW + 5)
    assert (row.owner, row.epoch, row.status, row.started_at) == (worker, made.epoch + 1, "running", NOW + 5)
    assert row == await bench.row("r")
    row = await bench.put(row, release=True, status="waiting", wake_at=NOW + 6)
    (again,) = await bench.claim(worker, now=NOW + 7)
    assert (again.epoch, again.started_at) == (row.epoch + 1, NOW + 5)
    assert await bench.store.owned(worker) == [(row.run, again.epoch)]


async def the_longest_due_come_first(bench: Bench) -> None:
    """Whatever their queue and workflow, up to the limit."""
    worker = await bench.worker()
    times = [5, 1, 4, 2, 8, 3]
    for n, late in enumerate(times):
        await bench.make(
            f"late-{late}", wake_at=NOW - late, queue=("a", "b")[n % 2], workflow=("x", "y", "z")[n % 3]
        )
    fitting = {"queues": ["b", "a"], "workflows": ["x", "y", "z"]}
    rows = await bench.claim(worker, limit=4, **fitting)
    assert [row.id for row in rows] == ["late-8", "late-5", "late-4", "late-3"]
    rows = await bench.claim(worker, limit=4, **fitting)
    assert [row.id for row in rows] == ["late-2", "late-1"]
    assert await bench.claim(worker, limit=4, **fitting) == []


async def what_is_not_due_stays(bench: Bench) -> None:
    """Nor is a run taken that has an owner or has ended."""
    worker, other = await bench.worker(), await bench.worker()
    await bench.make("later", wake_at=NOW + 0.001)
    await bench.make("owned", owner=other)
    ended = await bench.make("ended", owner=other)
    await bench.put(ended, b"end", status="completed")
    await bench.make("exact", wake_at=NOW)
    assert [row.id for row in await bench.claim(worker)] == ["exact"]
    assert (await bench.row("owned")).owner == other


async def only_fitting_runs_are_claimed(bench: Bench) -> None:
    """Those of a queue and a workflow the worker names."""
    worker = await bench.worker()
    await bench.make("right", queue="q", workflow="w")
    await bench.make("other-queue", queue="Q", workflow="w")
    await bench.make("other-workflow", queue="q", workflow="v")
    assert [row.id for row in await bench.claim(worker, queues=["q"], workflows=["w"])] == ["right"]
    assert await bench.claim(worker, queues=[], workflows=["v"]) == []
    assert await bench.claim(worker, queues=["q"], workflows=[]) == []


async def an_unknown_worker_gets_nothing(bench: Bench) -> None:
    worker = await bench.worker()
    await bench.store.retire(worker, now=NOW)
    row = await bench.make("r")
    claimed = await bench.store.claim(worker, workflows=[WORKFLOW], queues=["default"], now=NOW, limit=9)
    assert list(claimed.rows) == []
    assert claimed.next_at is None
    assert await bench.row("r") == row


async def held_runs_wait_for_a_wake_up(bench: Bench) -> None:
    """A blocked run is claimed only if its wake_at was set again; then it is free of its reason."""
    worker = await bench.worker()
    for status in ("blocked",):
        row = await bench.make(status, owner=worker)
        held = {"status": status, "reason": "why", "block_code": BlockCode.POISON, "release": True}
        row = await bench.put(row, **held)
        assert await bench.claim(worker, now=NOW + 99) == []
        assert await bench.next_at(worker) is None
        row = await bench.make(f"{status}-again", owner=worker)
        await bench.put(row, **held, wake_at=NOW + 5)
        (row,) = await bench.claim(worker, now=NOW + 5)
        assert (row.id, row.status) == (f"{status}-again", "running")
        assert (row.reason, row.block_code) == (None, None)


async def next_at_is_the_next_that_fits(bench: Bench) -> None:
    """Of the unowned runs this worker could claim later; also one that is due but over the limit."""
    worker = await bench.worker()
    assert await bench.next_at(worker) is None
    await bench.make("foreign-queue", queue="q", wake_at=NOW + 1)
    await bench.make("foreign-workflow", workflow="w", wake_at=NOW + 2)
    await bench.make("owned", owner=worker)
    assert await bench.next_at(worker) is None
    await bench.make("far", wake_at=NOW + 50)
    await bench.make("near", wake_at=NOW + 20)
    assert await bench.next_at(worker) == NOW + 20
    both = {"queues": ["q", "default"], "workflows": [WORKFLOW, "w"]}
    assert await bench.next_at(worker, **both) == NOW + 1
    claimed = await bench.store.claim(worker, queues=["default"], workflows=[WORKFLOW], now=NOW + 60, limit=1)
    assert [row.id for row in claimed.rows] == ["near"]
    assert claimed.next_at == NOW + 50


async def racing_workers_share(bench: Bench) -> None:
    """Each run goes to one worker, whichever store it uses."""
    other = await bench.another()
    await bench.store.create([bench.new(f"r{n}") for n in range(100)])
    workers = [await bench.worker() for _ in range(4)]
    claims = await asyncio.gather(
        *(
            store.claim(worker, workflows=[WORKFLOW], queues=["default"], now=NOW, limit=10)
            for worker, store in zip(workers, [bench.store, other] * 2, strict=True)
            for _ in range(3)
        )
    )
    ids = [row.id for claimed in claims for row in claimed.rows]
    assert len(ids) == len(set(ids)) == 100


CHECKS: tuple[Check, ...] = (
    a_claim_makes_an_owner,
    the_longest_due_come_first,
    what_is_not_due_stays,
    only_fitting_runs_are_claimed,
    an_unknown_worker_gets_nothing,
    held_runs_wait_for_a_wake_up,
    next_at_is_the_next_that_fits,
    racing_workers_share,
)
