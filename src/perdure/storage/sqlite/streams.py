"""The streams of the SQLite store: inside a transaction of the writer, and on the reader's connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json
from perdure.storage.streams import Emit, Settle, StepItems, StreamPage, StreamRow, Supersede


class SqliteStreams:
    """The verbs of Streams, handed to the writer and the reader.

    Args:
        write, read: do a verb with its arguments in a transaction.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        answer: list[bool] = await self._write(_emit_steps, batch)
        return answer

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        answer: list[tuple[int, str]] = await self._read(_unsettled, runs)
        return answer

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        answer: bool = await self._write(_supersede_steps, run, epoch, steps, now, of)
        return answer

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        answer: StreamPage | None = await self._read(_page, id, stream, after, limit)
        return answer

    async def names(self, id: str) -> list[tuple[str, int]]:
        answer: list[tuple[str, int]] = await self._read(_names, id)
        return answer


# -- writing ------------------------------------------------------------------------------------------


def emit(db: Database, append: Append, effect: Emit) -> None:
    """The effect of an append that puts out an item of the workflow's own."""
    run = append.run
    ((stream, offset),) = db.rows("grow_stream", {"run": run, "name": effect.stream, "count": 1})
    _put(db, stream, offset, append.now, run, data=effect.data)


def supersede(db: Database, append: Append, effect: Supersede) -> None:
    """The effect of an append that takes back what a step has put out."""
    _supersede(db, append.run, effect.step, append.now)


def settle(db: Database, append: Append, effect: Settle) -> None:
    """The effect of an append that records a step's result."""
    db.run("settle", {"run": append.run, "step": effect.step})


def take_back_unsettled(db: Database, run: int, now: float) -> None:
    """A run is done again: what its steps without a result have put out doesn't count."""
    for _, step in _unsettled(db, [run]):
        _supersede(db, run, step, now)


def _emit_steps(db: Database, batch: Sequence[StepItems]) -> list[bool]:
    answers: list[bool] = []
    for group in batch:
        driven = bool(db.value("driven", {"run": group.run, "epoch": group.epoch}))
        if group.of is not None:
            driven = driven and bool(db.value("is_live", {"run": group.of}))
        answers.append(driven)
        if driven and group.items:
            _put_group(db, group)
    return answers


def _put_group(db: Database, group: StepItems) -> None:
    count = len(group.items)
    run = group.run if group.of is None else group.of
    ((stream, last),) = db.rows("grow_stream", {"run": run, "name": group.stream, "count": count})
    first = last - count + 1
    writer = {"stream": stream, "run": run, "step": group.step, "attempt": group.attempt}
    places: list[tuple[int, int]] = []
    start = 1
    for item in group.items:
        places.append((start, len(item)))
        start += len(item)
    db.run(
        "put_items",
        {**writer, "base": first, "at": group.now, "data": b"".join(group.items), "places": as_json(places)},
    )
    db.run("note_writer", {**writer, "first": first, "last": last})


def _supersede_steps(
    db: Database, run: int, epoch: int, steps: Sequence[str], now: float, of: int | None
) -> bool:
    if not db.value("driven", {"run": run, "epoch": epoch}):
        return False
    for step in steps:
        _supersede(db, run if of is None else of, step, now)
    return True


def _supersede(db: Database, run: int, step: str, now: float) -> None:
    for stream, attempt, first in db.rows("writers", {"run": run, "step": step}):
        ((offset,),) = db.rows("lengthen_stream", {"stream": stream})
        _put(db, stream, offset, now, run, step=step, attempt=attempt, since=first)
        db.run("take_back", {"run": run, "step": step, "stream": stream, "offset": offset})


def _put(
    db: Database,
    stream: int,
    offset: int,
    at: float,
    run: int,
    *,
    data: bytes | None = None,
    step: str | None = None,
    attempt: int | None = None,
    since: int = 0,
) -> None:
    db.run(
        "put_item",
        {
            "stream": stream,
            "offset": offset,
            "at": at,
            "run": run,
            "step": step,
            "attempt": attempt,
            "data": data,
            "since": since,
        },
    )


# -- reading ------------------------------------------------------------------------------------------


def _unsettled(db: Database, runs: Sequence[int]) -> list[tuple[int, str]]:
    return [(run, step) for run, step in db.rows("unsettled", {"runs": as_json(runs)})]


def _page(db: Database, id: str, stream: str, after: int, limit: int) -> StreamPage | None:
    db.begin("BEGIN")  # so that an end isn't seen before the items that came before it
    ended = db.value("run_ended", {"id": id})
    rows = db.rows("stream_items", {"id": id, "name": stream, "after": after, "limit": limit})
    db.commit()
    if ended is None:
        return None
    return StreamPage(
        [
            StreamRow(offset, at, data, step, attempt, bool(superseded), since)
            for offset, at, data, step, attempt, superseded, since in rows
        ],
        bool(ended),
    )


def _names(db: Database, id: str) -> list[tuple[str, int]]:
    return [(name, size) for name, size in db.rows("stream_names", {"id": id})]
