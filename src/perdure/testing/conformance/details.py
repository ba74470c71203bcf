"""What heartbeats told: kept for the next attempt, replaced, and forgotten with the step or the run."""

from __future__ import annotations

from perdure.storage.effects import StepDetail
from perdure.storage.records import Detail, Stale
from perdure.testing.conformance.bench import NOW, Bench, Check


async def details_are_kept_and_replaced(bench: Bench) -> None:
    """They come with the history, the oldest first; no event tells of them."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    other = await bench.make("other", owner=worker)
    row = await bench.put(
        row, effects=[StepDetail("a#1", b"1", NOW), StepDetail("b#1", b"\x00\xff", NOW + 1)]
    )
    row = await bench.put(row, b"event", effects=[StepDetail("a#1", b"2", NOW + 2)])
    assert row.seq == 2
    mine, others = await bench.store.load([row.run, other.run])
    assert list(mine.details) == [Detail("b#1", b"\x00\xff", NOW + 1), Detail("a#1", b"2", NOW + 2)]
    assert list(others.details) == []
    row = await bench.put(row, b"event", effects=[StepDetail("a#1", None, NOW), StepDetail("c#1", None, NOW)])
    (mine,) = await bench.store.load([row.run])
    assert [detail.step for detail in mine.details] == ["b#1"]


async def stale_workers_keep_nothing(bench: Bench) -> None:
    """A detail is written under the same compare-and-set as an event."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    answer = await bench.append(row, epoch=row.epoch + 1, effects=[StepDetail("a#1", b"1", NOW)])
    assert isinstance(answer, Stale)
    (history,) = await bench.store.load([row.run])
    assert list(history.details) == []


async def details_end_with_their_run(bench: Bench) -> None:
    """However it ends."""
    worker = await bench.worker()
    rows = [await bench.make(name, owner=worker) for name in ("a", "b", "c", "d")]
    rows = [await bench.put(row, effects=[StepDetail("a#1", b"1", NOW)]) for row in rows]
    await bench.put(rows[0], b"end", status="completed")
    ends = [bench.change(row, b"end", status="failed") for row in rows[1:3]]
    await bench.store.append(ends)
    await bench.store.terminate("d", b"end", now=NOW)
    histories = await bench.store.load([row.run for row in rows])
    assert [list(history.details) for history in histories] == [[], [], [], []]


CHECKS: tuple[Check, ...] = (
    details_are_kept_and_replaced,
    stale_workers_keep_nothing,
    details_end_with_their_run,
)
