"""The streams of a memory database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from perdure.storage.records import Append
from perdure.storage.streams import Emit, Settle, StepItems, StreamPage, StreamRow, Supersede


class Writer(msgspec.Struct):
    """Which of a stream's items are a step's: the first that no mark has taken back, the last; the last mark.

    It is open while the step may yet be attempted again.
    """

    attempt: int
    first: int
    last: int
    superseded: int = 0
    open: bool = True


class Stream(msgspec.Struct):
    """A stream's items and marks in order, and the keys of the runs they are of."""

    rows: list[tuple[int, StreamRow]] = []
    writers: dict[tuple[int, str], Writer] = {}


class MemoryStreams:
    """The verbs of Streams on a memory database.

    Args:
        database: gives the MemoryDatabase if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Any], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        db = self._database()
        answers = [_driven(db, group.run, group.epoch) and _live(db, group.of) for group in batch]
        for group, driven in zip(batch, answers, strict=True):
            if driven and group.items:
                _put_group(db, group)
        if any(answers):
            self._changed()
        return answers

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        found = {
            key
            for stream in self._database().streams.values()
            for key, writer in stream.writers.items()
            if key[0] in runs and writer.open
        }
        return sorted(found)

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        db = self._database()
        if not _driven(db, run, epoch):
            return False
        for step in steps:
            _supersede(db, run if of is None else of, step, now)
        self._changed()
        return True

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        db = self._database()
        run = db.find_id(id)
        if run is None:
            return None
        found = db.streams.get((id, stream))
        rows = [] if found is None else [_told(found, *row) for row in found.rows[after : after + limit]]
        return StreamPage(rows, run.ended)

    async def names(self, id: str) -> list[tuple[str, int]]:
        streams = self._database().streams
        return sorted((name, len(stream.rows)) for (owner, name), stream in streams.items() if owner == id)


def _driven(db: Any, run: int, epoch: int) -> bool:
    row = db.runs.get(run)
    return row is not None and row.epoch == epoch and row.owner is not None


def _live(db: Any, run: int | None) -> bool:
    return run is None or (run in db.runs and not db.runs[run].ended)


def _stream(db: Any, run: int, name: str) -> Stream:
    stream: Stream = db.streams.setdefault((db.runs[run].id, name), Stream())
    return stream


def emit(db: Any, append: Append, effect: Emit) -> None:
    """The effect of an append that puts out an item of the workflow's own."""
    stream = _stream(db, append.run, effect.stream)
    row = StreamRow(len(stream.rows) + 1, append.now, effect.data, None, None, superseded=False, since=0)
    stream.rows.append((append.run, row))


def supersede(db: Any, append: Append, effect: Supersede) -> None:
    """The effect of an append that takes back what a step has put out."""
    _supersede(db, append.run, effect.step, append.now)


def settle(db: Any, append: Append, effect: Settle) -> None:
    """The effect of an append that records a step's result."""
    for stream in db.streams.values():
        if (writer := stream.writers.get((append.run, effect.step))) is not None:
            writer.open = False


def take_back_unsettled(db: Any, run: int, now: float) -> None:
    """A run is done again: what its steps without a result have put out doesn't count."""
    steps = {step for stream in db.streams.values() for key, step in stream.writers if key == run}
    unsettled = {
        step
        for step in steps
        for stream in db.streams.values()
        if (writer := stream.writers.get((run, step))) is not None and writer.open
    }
    for step in sorted(unsettled):
        _supersede(db, run, step, now)


def _put_group(db: Any, group: StepItems) -> None:
    run = group.run if group.of is None else group.of
    stream = _stream(db, run, group.stream)
    first = len(stream.rows) + 1
    for offset, data in enumerate(group.items, first):
        row = StreamRow(offset, group.now, data, group.step, group.attempt, superseded=False, since=0)
        stream.rows.append((run, row))
    last = len(stream.rows)
    writer = stream.writers.get((run, group.step))
    if writer is None:
        stream.writers[run, group.step] = Writer(group.attempt, first, last)
    else:
        writer.attempt, writer.last, writer.open = group.attempt, last, True
        if writer.superseded > writer.first:
            writer.first = first


def _supersede(db: Any, run: int, step: str, now: float) -> None:
    id = db.runs[run].id
    for (owner, _), stream in db.streams.items():
        writer = stream.writers.get((run, step))
        if owner != id or writer is None or writer.last <= writer.superseded:
            continue
        writer.superseded, writer.open = len(stream.rows) + 1, False
        mark = StreamRow(
            writer.superseded, now, None, step, writer.attempt, superseded=False, since=writer.first
        )
        stream.rows.append((run, mark))


def _told(stream: Stream, run: int, row: StreamRow) -> StreamRow:
    writer = None if row.step is None else stream.writers.get((run, row.step))
    gone = writer is not None and row.data is not None and writer.superseded > row.offset
    return msgspec.structs.replace(row, superseded=True) if gone else row
