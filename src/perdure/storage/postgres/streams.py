"""The streams of a PostgreSQL store. See storage/streams.py for what is promised.

A stream's row is locked from when its size grows until the commit, so offsets come in the order of commits.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import new_key
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Append
from perdure.storage.streams import Emit, Settle, StepItems, StreamPage, StreamRow, Supersede


class PostgresStreams:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        # what the workflow has put out before the step began comes first
        await self._ways.arrived({group.run if group.of is None else group.of for group in batch})
        return await self._ways.write(_emit_steps, batch)

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        return await self._ways.read(_unsettled, runs) if runs else []

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        return await self._ways.write(_supersede_steps, run, epoch, steps, now, of)

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        return await self._ways.read(_page, id, stream, after, limit)

    async def names(self, id: str) -> list[tuple[str, int]]:
        return await self._ways.read(_names, id)


# -- writing ------------------------------------------------------------------------------------------


async def emit(db: Database, append: Append, effect: Emit) -> None:
    """The effect of an append that puts out an item of the workflow's own."""
    stream, place = await _grow(db, append.run, effect.stream, 1)
    await _put(db, stream, [place], [effect.data], append.now, append.run)


async def supersede(db: Database, append: Append, effect: Supersede) -> None:
    """The effect of an append that takes back what a step has put out."""
    await _supersede(db, append.run, effect.step, append.now)


async def settle(db: Database, append: Append, effect: Settle) -> None:
    """The effect of an append that records a step's result."""
    await db.run("settle", run=append.run, step=effect.step)


async def take_back_unsettled(db: Database, run: int, now: float) -> None:
    """A run is done again: what its steps without a result have put out doesn't count."""
    for _, step in await _unsettled(db, [run]):
        await _supersede(db, run, step, now)


async def _emit_steps(db: Database, batch: Sequence[StepItems]) -> list[bool]:
    answers: list[bool] = []
    for group in batch:
        # who sent it is older, and ancestors are locked first
        live = group.of is None or bool(await db.rows("is_live", run=group.of))
        driven = live and bool(await db.rows("driven", run=group.run, epoch=group.epoch))
        answers.append(driven)
        if driven and group.items:
            await _put_group(db, group)
    return answers


async def _put_group(db: Database, group: StepItems) -> None:
    count = len(group.items)
    run = group.run if group.of is None else group.of
    stream, last = await _grow(db, run, group.stream, count)
    first = last - count + 1
    places, items = list(range(first, last + 1)), list(group.items)
    await _put(db, stream, places, items, group.now, run, step=group.step, attempt=group.attempt)
    await db.run(
        "note_writer",
        stream=stream,
        run=run,
        step=group.step,
        attempt=group.attempt,
        first=first,
        last=last,
    )


async def _grow(db: Database, run: int, name: str, count: int) -> tuple[int, int]:
    ((stream, size),) = await db.rows("grow_stream", run=run, name=name, stream=new_key(), count=count)
    return stream, size


async def _supersede_steps(
    db: Database, run: int, epoch: int, steps: Sequence[str], now: float, of: int | None
) -> bool:
    if not await db.rows("driven", run=run, epoch=epoch):
        return False
    for step in steps:
        await _supersede(db, run if of is None else of, step, now)
    return True


async def _supersede(db: Database, run: int, step: str, now: float) -> None:
    for stream, attempt, first in await db.rows("writers", run=run, step=step):
        ((place,),) = await db.rows("lengthen_stream", stream=stream)
        await _put(db, stream, [place], [None], now, run, step=step, attempt=attempt, since=first)
        await db.run("take_back", run=run, step=step, stream=stream, place=place)


async def _put(
    db: Database,
    stream: int,
    places: Sequence[int],
    data: Sequence[bytes | None],
    at: float,
    run: int,
    *,
    step: str | None = None,
    attempt: int | None = None,
    since: int = 0,
) -> None:
    await db.run(
        "put_items",
        stream=stream,
        places=list(places),
        data=list(data),
        at=float(at),
        run=run,
        step=step,
        attempt=attempt,
        since=since,
    )


# -- reading ------------------------------------------------------------------------------------------


async def _unsettled(db: Database, runs: Sequence[int]) -> list[tuple[int, str]]:
    return [(run, step) for run, step in await db.rows("unsettled", runs=list(runs))]


async def _page(db: Database, id: str, stream: str, after: int, limit: int) -> StreamPage | None:
    ended = await db.value(
        "run_ended", id=id
    )  # first, so that an end isn't seen before the items that came before it
    if ended is None:
        return None
    rows = await db.rows("stream_items", id=id, name=stream, after=after, limit=limit)
    return StreamPage([StreamRow(*row) for row in rows], ended)


async def _names(db: Database, id: str) -> list[tuple[str, int]]:
    return [(name, size) for name, size in await db.rows("stream_names", id=id)]
