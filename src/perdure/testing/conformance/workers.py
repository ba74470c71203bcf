"""Workers: their leases, their deaths, and what becomes of the runs they drove."""

from __future__ import annotations

import msgspec

from perdure.storage.records import BlockCode, RunRow, Stale
from perdure.storage.workers import Heartbeat
from perdure.testing.conformance.bench import LEASE, NOW, WORKFLOW, Bench, Check


async def workers_are_listed_as_they_registered(bench: Bench) -> None:
    first = bench.worker_row(name="a", queues=["x", "käse"], workflows=[])
    second = bench.worker_row(name="b", pid=77, born=0, lease_until=LEASE + 0.125)
    ids = [await bench.store.register(worker, now=NOW) for worker in (first, second)]
    assert [msgspec.structs.replace(row, queues=list(row.queues)) for row in await bench.store.workers()] == [
        msgspec.structs.replace(worker, id=name) for worker, name in zip((first, second), ids, strict=True)
    ]


async def worker_ids_are_never_used_again(bench: Bench) -> None:
    first = await bench.worker()
    await bench.store.retire(first, now=NOW)
    second = await bench.worker()
    assert await bench.store.bury(second, LEASE, now=NOW, max_recoveries=1) == 0
    third = await bench.worker()
    assert 0 < first < second < third


async def suspects_are_neighbours_and_those_whose_lease_is_over(bench: Bench) -> None:
    here, gone, fine = [await bench.worker(name=name, host=host) for name, host in HOSTS.items()]
    await bench.store.heartbeat(fine, Heartbeat(LEASE + 9, NOW))
    assert await bench.store.crowd() == 3
    assert {row.id for row in await bench.store.suspects("a", lapsed_before=LEASE)} == {here}
    found = await bench.store.suspects("a", lapsed_before=LEASE + 1)
    assert {row.id for row in found} == {here, gone}
    assert sorted(row.name for row in found) == ["gone", "here"]
    await bench.store.retire(here, now=NOW)
    assert await bench.store.crowd() == 2
    assert await bench.store.suspects("a", lapsed_before=LEASE) == []


#: Of three workers.
HOSTS = {"here": "a", "gone": "b", "fine": "c"}


async def a_heartbeat_extends_the_lease(bench: Bench) -> None:
    """False for a worker that was declared dead or has left."""
    worker = await bench.worker()
    assert await bench.store.heartbeat(worker, Heartbeat(LEASE + 10, NOW))
    assert [row.lease_until for row in await bench.store.workers()] == [LEASE + 10]
    await bench.store.bury(worker, LEASE + 10, now=NOW, max_recoveries=1)
    assert not await bench.store.heartbeat(worker, Heartbeat(LEASE + 20, NOW))
    assert await bench.store.workers() == []


async def a_heartbeat_tells_of_its_worker(bench: Bench) -> None:
    """What it has in hand and whether it stops; the newest one counts."""
    await bench.worker(name="other")
    worker = await bench.worker(name="w", heard_at=NOW)
    before = (await bench.store.workers())[1]
    assert (before.heard_at, before.runs, before.steps, before.stopping) == (NOW, 0, 0, False)
    for beat in (
        Heartbeat(LEASE + 1, NOW + 1.5, runs=70_000, steps=12, stopping=True),
        Heartbeat(LEASE + 2, NOW + 2, runs=3),
    ):
        assert await bench.store.heartbeat(worker, beat)
        other, row = await bench.store.workers()
        assert msgspec.structs.asdict(row).items() >= msgspec.structs.asdict(beat).items()
        assert (row.name, list(row.workflows), other.runs) == ("w", [WORKFLOW], 0)


async def burying_frees_the_runs(bench: Bench) -> None:
    """They become due for others in their next epoch, and count the death."""
    dead, heir = await bench.worker(), await bench.worker()
    rows = [await bench.make(name, owner=dead) for name in ("a", "b")]
    kept = await bench.make("kept", owner=heir)
    assert await bench.store.bury(dead, LEASE, now=NOW + 3, max_recoveries=10) == 2
    assert [worker.id for worker in await bench.store.workers()] == [heir]
    for row in rows:
        after = await bench.row(row.id)
        assert (after.owner, after.wake_at, after.recoveries) == (None, NOW + 3, 1)
        assert after.epoch == row.epoch + 1
        assert await bench.append(row, b"x") == Stale(1, after.epoch)
    assert await bench.row("kept") == kept
    assert {row.id for row in await bench.claim(heir, now=NOW + 3)} == {"a", "b"}
    assert await bench.store.owned(dead) == []


async def a_sign_of_life_prevents_burial(bench: Bench) -> None:
    """So does having been buried already."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.store.heartbeat(worker, Heartbeat(LEASE + 10, NOW))
    assert await bench.store.bury(worker, LEASE, now=NOW, max_recoveries=10) is None
    assert await bench.row("r") == row
    assert len(await bench.store.workers()) == 1
    assert await bench.store.bury(worker, LEASE + 10, now=NOW, max_recoveries=10) == 1
    assert await bench.store.bury(worker, LEASE + 10, now=NOW, max_recoveries=10) is None
    assert await bench.store.bury(worker + 99, LEASE, now=NOW, max_recoveries=10) is None


async def _die_with(bench: Bench, row: RunRow, max_recoveries: int) -> int | None:
    """Bury the run's driver; returns how many runs were released."""
    assert row.owner is not None
    return await bench.store.bury(row.owner, LEASE, now=NOW + 1, max_recoveries=max_recoveries)


async def a_run_that_kills_is_blocked(bench: Bench) -> None:
    """When it has lost its driver more than max_recoveries times in a row, and was all that the last one had."""
    row = await bench.make("bad", owner=await bench.worker())
    for death in (1, 2):
        assert await _die_with(bench, row, 2) == 1
        (row,) = await bench.claim(await bench.worker(), now=NOW + 1, suspected=NOW + 1)
        assert row.recoveries == death
    assert row.owner is not None
    await bench.make("good", owner=row.owner)
    assert await _die_with(bench, row, 2) == 2
    bad, good = await bench.row("bad"), await bench.row("good")
    assert (bad.status, bad.recoveries, bad.wake_at) == ("running", 3, NOW + 1)
    assert (good.status, good.recoveries, good.wake_at) == ("running", 1, NOW + 1)
    (row,) = await bench.claim(await bench.worker(), now=NOW + 1, suspected=NOW + 1)
    assert await _die_with(bench, row, 2) == 0
    bad = await bench.row("bad")
    assert (bad.status, bad.block_code, bad.owner, bad.wake_at) == ("blocked", BlockCode.POISON, None, None)
    assert bad.reason
    assert "4 times" in bad.reason
    assert bad.epoch == row.epoch + 1
    assert await bench.row("good") == good
    await bench.worker()
    assert (await bench.row("bad")).wake_at is None


async def retiring_frees_the_runs_without_blame(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.store.retire(worker, now=NOW + 3)
    after = await bench.row("r")
    assert (after.owner, after.wake_at, after.recoveries, after.epoch) == (None, NOW + 3, 0, row.epoch + 1)
    assert await bench.store.workers() == []
    assert await bench.append(row, b"x") == Stale(1, after.epoch)
    await bench.store.retire(worker, now=NOW + 4)
    assert await bench.row("r") == after


async def runs_without_code_are_stranded(bench: Bench) -> None:
    """Due, unowned ones, if no worker has both their workflow and their queue."""
    worker = await bench.worker(queues=["a"], workflows=["x"])
    await bench.worker(queues=["b"], workflows=["y"])
    await bench.make("known", queue="a", workflow="x")
    await bench.make("half-known", queue="a", workflow="y")
    await bench.make("unknown", queue="c", workflow="z")
    await bench.make("later", queue="c", workflow="z", wake_at=NOW + 1)
    await bench.make("owned", queue="c", workflow="z", owner=worker)
    assert await bench.store.strand(now=NOW) == 2
    for name in ("half-known", "unknown"):
        row = await bench.row(name)
        assert (row.status, row.block_code, row.wake_at) == ("blocked", BlockCode.CODE, None)
        assert row.reason
        assert row.workflow in row.reason
    for name in ("known", "later", "owned"):
        assert (await bench.row(name)).status != "blocked"
    assert await bench.store.strand(now=NOW) == 0
    assert await bench.store.strand(now=NOW + 1) == 1


async def many_stranded_runs_are_all_found(bench: Bench) -> None:
    """If not in one go; runs that wait for a busy worker don't hide them."""
    await bench.worker()
    await bench.store.create([bench.new(f"waits-{n}", wake_at=NOW - 10) for n in range(1200)])
    await bench.store.create([bench.new(f"lost-{n}", workflow="gone") for n in range(1200)])
    blocked = 0
    while stranded := await bench.store.strand(now=NOW):
        blocked += stranded
    assert blocked == 1200


async def fitting_code_unblocks(bench: Bench) -> None:
    """When a worker registers with the run's workflow and queue."""
    await bench.make("r")
    assert await bench.store.strand(now=NOW) == 1
    await bench.worker(workflows=["other"])
    await bench.worker(queues=["other"])
    assert (await bench.row("r")).wake_at is None
    worker = await bench.store.register(bench.worker_row(workflows=["a", WORKFLOW]), now=NOW + 9)
    assert (await bench.row("r")).wake_at == NOW + 9
    assert await bench.store.strand(now=NOW + 9) == 0
    (row,) = await bench.claim(worker, now=NOW + 9)
    assert (row.status, row.reason, row.block_code) == ("running", None, None)


async def other_blocks_stay(bench: Bench) -> None:
    """A registration frees only runs that were blocked for want of code."""
    worker = await bench.worker()
    for name, fields in {
        "poison": {"status": "blocked", "block_code": BlockCode.POISON},
        "plain": {"status": "blocked"},
        "waiting": {"status": "waiting"},
    }.items():
        await bench.put(await bench.make(name, owner=worker), release=True, **fields)
    await bench.worker()
    assert await bench.next_at(worker) is None


async def news_of_code_unblocks(bench: Bench) -> None:
    """announce replaces a worker's workflows, with register's effect; an unknown worker's has none."""
    worker = await bench.worker(workflows=["old"])
    await bench.make("r")
    assert await bench.store.strand(now=NOW) == 1
    await bench.store.announce(worker + 99, [WORKFLOW], now=NOW + 1)
    assert (await bench.row("r")).wake_at is None
    await bench.store.announce(worker, [WORKFLOW, "new"], now=NOW + 2)
    assert (await bench.row("r")).wake_at == NOW + 2
    (row,) = await bench.store.workers()
    assert list(row.workflows) == [WORKFLOW, "new"]
    await bench.make("lost", workflow="old")
    assert await bench.store.strand(now=NOW + 2) == 1
    assert (await bench.row("lost")).status == "blocked"


CHECKS: tuple[Check, ...] = (
    workers_are_listed_as_they_registered,
    worker_ids_are_never_used_again,
    suspects_are_neighbours_and_those_whose_lease_is_over,
    a_heartbeat_extends_the_lease,
    a_heartbeat_tells_of_its_worker,
    burying_frees_the_runs,
    a_sign_of_life_prevents_burial,
    a_run_that_kills_is_blocked,
    retiring_frees_the_runs_without_blame,
    runs_without_code_are_stranded,
    many_stranded_runs_are_all_found,
    fitting_code_unblocks,
    other_blocks_stay,
    news_of_code_unblocks,
)
