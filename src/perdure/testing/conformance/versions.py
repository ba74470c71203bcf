"""Versions of code: pinned runs, and runs that some code can't drive."""

from __future__ import annotations

from perdure.storage.attributes import Misfit
from perdure.storage.records import BlockCode, RunRow
from perdure.testing.conformance.bench import NOW, QUEUE, WORKFLOW, Bench, Check


async def _block(bench: Bench, row: RunRow, code: str) -> RunRow:
    return await bench.put(
        row, status="blocked", reason="why", block_code=BlockCode.CODE, release=True, effects=[Misfit(code)]
    )


async def a_run_tells_the_version_that_drives_it(bench: Bench) -> None:
    """None before it is driven; that of its newest driver after."""
    old = await bench.worker(version="1", code="1")
    new = await bench.worker(version="2", code="2")
    row = await bench.make("r")
    assert (row.version, bool(row.pinned)) == (None, False)
    mine = await bench.make("mine", owner=old)
    assert mine.version == "1"
    (row,) = await bench.claim(old)
    assert row.version == "1"
    row = await bench.put(row, release=True, wake_at=NOW)
    (row,) = await bench.claim(new)
    assert row.version == "2"


async def workers_tell_their_versions(bench: Bench) -> None:
    """And "" if they have none."""
    await bench.worker(version="7", code="c")
    await bench.worker()
    assert [(worker.version, worker.code) for worker in await bench.store.workers()] == [("7", "c"), ("", "")]


async def a_pinned_run_stays_with_its_version(bench: Bench) -> None:
    """Others don't get it, and don't hear of it as something to come."""
    old = await bench.worker(version="1", code="1")
    new = await bench.worker(version="2", code="2")
    row = await bench.make("r", owner=old, pinned=True)
    await bench.put(row, release=True, wake_at=NOW)
    assert await bench.claim(new) == []
    assert await bench.next_at(new) is None
    assert await bench.next_at(old) == NOW
    (row,) = await bench.claim(old)
    assert row.version == "1"


async def a_pinned_run_that_nobody_began_goes_to_anybody(bench: Bench) -> None:
    """And is that one's from then on."""
    new = await bench.worker(version="2", code="2")
    await bench.make("r", pinned=True)
    (row,) = await bench.claim(new)
    assert row.version == "2"


async def a_pinned_run_without_its_version_is_blocked(bench: Bench) -> None:
    """The reason names the version. A worker of that version gets it."""
    old = await bench.worker(version="1", code="1")
    await bench.worker(version="2", code="2")
    await bench.make("r", owner=old, pinned=True)
    await bench.store.retire(old, now=NOW)
    assert await bench.store.strand(now=NOW) == 1
    row = await bench.row("r")
    assert (row.status, row.block_code) == ("blocked", "code")
    assert "no worker of version '1'" in (row.reason or "")
    await bench.worker(version="2", code="other")
    assert (await bench.row("r")).wake_at is None
    again = await bench.worker(version="1", code="1")
    assert [row.id for row in await bench.claim(again)] == ["r"]


async def code_that_does_not_fit_is_not_tried_again(bench: Bench) -> None:
    """Neither by the worker that found out, nor by others with the same code; other code gets its turn."""
    first = await bench.worker(code="a")
    row = await _block(bench, await bench.make("r", owner=first), "a")
    assert row.wake_at is None
    second = await bench.worker(code="a")
    await bench.store.announce(first, [WORKFLOW], now=NOW)
    assert (await bench.row("r")).wake_at is None
    third = await bench.worker(code="b")
    assert (await bench.row("r")).wake_at == NOW
    assert await bench.claim(first) == await bench.claim(second) == []
    assert await bench.next_at(first) is None
    (row,) = await bench.claim(third)
    row = await _block(bench, row, "b")
    assert row.wake_at is None
    await bench.worker(code="a")
    await bench.worker(code="b")
    assert (await bench.row("r")).wake_at is None


async def code_that_may_fit_may_be_there_already(bench: Bench) -> None:
    """A run that one worker can't drive stays due for another one with other code, workflow and queue given."""
    first = await bench.worker(code="a")
    row = await bench.make("r", owner=first)
    await bench.worker(code="b", queues=["elsewhere"])
    await bench.worker(code="c", workflows=["other"])
    assert (await _block(bench, row, "a")).wake_at is None
    row = await bench.make("s", owner=first)
    other = await bench.worker(code="d", queues=[QUEUE], workflows=[WORKFLOW])
    assert [claimed.id for claimed in await bench.claim(other)] == ["r"]
    row = await _block(bench, row, "a")
    assert (row.status, row.wake_at) == ("blocked", NOW + 1)
    assert await bench.claim(first, now=NOW + 2) == []
    assert [claimed.id for claimed in await bench.claim(other, now=NOW + 2)] == ["s"]


CHECKS: tuple[Check, ...] = (
    a_run_tells_the_version_that_drives_it,
    workers_tell_their_versions,
    a_pinned_run_stays_with_its_version,
    a_pinned_run_that_nobody_began_goes_to_anybody,
    a_pinned_run_without_its_version_is_blocked,
    code_that_does_not_fit_is_not_tried_again,
    code_that_may_fit_may_be_there_already,
)
