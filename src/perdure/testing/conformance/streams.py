"""Streams: items in order, each once, and marks for what doesn't count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.storage.records import RunRow, Stale
from perdure.storage.streams import Emit, Settle, StepItems, StreamRow, Supersede
from perdure.testing.conformance.bench import NOW, Bench, Check


async def _driven(bench: Bench, id: str = "r") -> RunRow:
    return await bench.make(id, owner=await bench.worker())


def _items(row: RunRow, *data: bytes, step: str = "s#1", attempt: int = 1, stream: str = "t") -> StepItems:
    return StepItems(row.run, row.epoch, step, attempt, stream, data, NOW + 2)


async def _rows(bench: Bench, id: str = "r", stream: str = "t", after: int = 0) -> Sequence[StreamRow]:
    page = await bench.store.streams.read(id, stream, after=after, limit=1000)
    assert page is not None
    return page.rows


async def _told(bench: Bench, **where: Any) -> list[tuple[int, bytes | None, bool]]:
    return [(row.offset, row.data, row.superseded) for row in await _rows(bench, **where)]


async def an_append_puts_items_out_with_its_events(bench: Bench) -> None:
    """In the same transaction, in order, with offsets from 1; a refused append puts out nothing."""
    row = await _driven(bench)
    row = await bench.put(row, b"emitted", effects=[Emit("t", b"1"), Emit("other", b"x"), Emit("t", b"2")])
    assert isinstance(
        await bench.append(row, b"emitted", expected=row.seq + 1, effects=[Emit("t", b"no")]), Stale
    )
    first, second = await _rows(bench)
    assert (first.offset, first.data, first.step, first.attempt) == (1, b"1", None, None)
    assert (second.offset, second.data, second.at) == (2, b"2", NOW + 1)
    assert await _told(bench, stream="other") == [(1, b"x", False)]
    assert await bench.store.streams.names("r") == [("other", 1), ("t", 2)]


async def a_repeated_append_puts_nothing_out_again(bench: Bench) -> None:
    """Its outcome was unknown, so it came twice."""
    row = await _driven(bench)
    change = bench.change(row, b"emitted", effects=[Emit("t", b"1")])
    await bench.store.append([change])
    await bench.store.append([change])
    assert await _told(bench) == [(1, b"1", False)]


async def items_of_steps_need_the_run_s_epoch(bench: Bench) -> None:
    """A worker that lost the run can't put anything out; others of the batch aren't harmed."""
    mine, lost = await _driven(bench, "mine"), await _driven(bench, "lost")
    unowned = await bench.make("unowned")
    assert lost.owner is not None
    await bench.store.retire(lost.owner, now=NOW)
    batch = [_items(row, b"a", b"b") for row in (mine, lost, unowned)]
    assert await bench.store.streams.emit(batch) == [True, False, False]
    assert await _told(bench, id="mine") == [(1, b"a", False), (2, b"b", False)]
    assert await _told(bench, id="lost") == []
    row = (await _rows(bench, id="mine"))[0]
    assert (row.step, row.attempt, row.at, row.since) == ("s#1", 1, NOW + 2, 0)


async def a_mark_takes_back_what_a_step_has_put_out(bench: Bench) -> None:
    """In every stream that holds some of it, and nothing of other steps; twice is once."""
    row = await _driven(bench)
    streams = bench.store.streams
    await streams.emit([_items(row, b"a"), _items(row, b"x", step="s#2"), _items(row, b"b")])
    await streams.emit([_items(row, b"c", stream="u")])
    row = await bench.put(row, b"failed", effects=[Supersede("s#1"), Supersede("s#1")])
    await streams.emit([_items(row, b"d", attempt=2)])
    assert await _told(bench) == [
        (1, b"a", True), (2, b"x", False), (3, b"b", True), (4, None, False), (5, b"d", False),
    ]  # fmt: skip
    mark = (await _rows(bench))[3]
    assert (mark.step, mark.attempt, mark.since) == ("s#1", 1, 1)
    assert await _told(bench, stream="u") == [(1, b"c", True), (2, None, False)]
    await bench.put(row, b"failed", effects=[Supersede("s#1")])
    assert await _told(bench, stream="u") == [(1, b"c", True), (2, None, False)]
    (last,) = await _rows(bench, after=5)
    assert (last.attempt, last.since) == (2, 5)


async def what_counts_of_a_lost_worker_is_known(bench: Bench) -> None:
    """Whoever takes the run over learns which steps have put something out, and takes it back in its epoch."""
    row = await _driven(bench)
    streams = bench.store.streams
    await streams.emit([_items(row, b"a"), _items(row, b"x", step="s#2")])
    assert sorted(await streams.unsettled([row.run, row.run + 7])) == [(row.run, "s#1"), (row.run, "s#2")]
    assert row.owner is not None
    await bench.store.retire(row.owner, now=NOW)
    assert not await streams.supersede(row.run, row.epoch, ["s#1"], now=NOW)
    (claimed,) = await bench.claim(await bench.worker())
    assert await streams.supersede(claimed.run, claimed.epoch, ["s#1", "unknown"], now=NOW + 3)
    assert await streams.unsettled([row.run]) == [(row.run, "s#2")]
    await streams.emit([_items(claimed, b"y", step="s#3")])
    await bench.put(claimed, b"done", effects=[Settle("s#2"), Settle("unknown")])
    assert await streams.unsettled([row.run]) == [(row.run, "s#3")]
    assert await _told(bench) == [
        (1, b"a", True), (2, b"x", False), (3, None, False), (4, b"y", False),
    ]  # fmt: skip


async def a_stream_is_read_from_any_offset(bench: Bench) -> None:
    """A page at a time. A stream without items is empty; a run that doesn't exist has none."""
    row = await _driven(bench)
    await bench.store.streams.emit([_items(row, *(b"%d" % n for n in range(10)))])
    page = await bench.store.streams.read("r", "t", after=4, limit=3)
    assert page is not None
    assert [item.data for item in page.rows] == [b"4", b"5", b"6"]
    assert await _rows(bench, after=10) == []
    assert await _rows(bench, stream="none") == []
    assert await bench.store.streams.read("nobody", "t", after=0, limit=3) is None


async def a_stream_tells_that_its_run_has_ended(bench: Bench) -> None:
    """And keeps its items then."""
    row = await _driven(bench)
    row = await bench.put(row, b"emitted", effects=[Emit("t", b"1")])
    page = await bench.store.streams.read("r", "t", after=0, limit=3)
    assert page is not None
    assert not page.ended
    await bench.put(row, b"end", status="completed", effects=[Emit("t", b"2")])
    page = await bench.store.streams.read("r", "t", after=1, limit=3)
    assert page is not None
    assert page.ended
    assert [item.data for item in page.rows] == [b"2"]
    assert await bench.store.streams.emit([_items(row, b"late")]) == [False]


async def a_stream_goes_on_in_the_next_generation(bench: Bench) -> None:
    """Its offsets go on, and steps of the same name are told apart."""
    row = await _driven(bench)
    await bench.store.streams.emit([_items(row, b"1")])
    await bench.put(row, b"end", status="completed")
    after = await bench.make("r", owner=row.owner, follows=row.run, generation=2)
    await bench.store.streams.emit([_items(after, b"2")])
    await bench.put(after, b"failed", effects=[Supersede("s#1")])
    assert await _told(bench) == [(1, b"1", False), (2, b"2", True), (3, None, False)]
    page = await bench.store.streams.read("r", "t", after=0, limit=3)
    assert page is not None
    assert not page.ended


async def a_run_that_is_done_again_takes_back_what_failed(bench: Bench) -> None:
    """And keeps what has its result; in a plain next generation everything stays."""
    row = await _driven(bench)
    await bench.store.streams.emit([_items(row, b"1"), _items(row, b"2", step="s#2")])
    row = await bench.put(row, b"done", effects=[Settle("s#2")])
    await bench.put(row, b"end", status="failed")
    after = await bench.make("r", owner=row.owner, follows=row.run, generation=2, inherit=True)
    await bench.store.streams.emit([_items(after, b"3")])
    assert await _told(bench) == [(1, b"1", True), (2, b"2", False), (3, None, False), (4, b"3", False)]


CHECKS: tuple[Check, ...] = (
    an_append_puts_items_out_with_its_events,
    a_repeated_append_puts_nothing_out_again,
    items_of_steps_need_the_run_s_epoch,
    a_mark_takes_back_what_a_step_has_put_out,
    what_counts_of_a_lost_worker_is_known,
    a_stream_is_read_from_any_offset,
    a_stream_tells_that_its_run_has_ended,
    a_stream_goes_on_in_the_next_generation,
    a_run_that_is_done_again_takes_back_what_failed,
)
