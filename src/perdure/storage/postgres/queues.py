"""The queues of a PostgreSQL store, and runs of which there may be only one. See storage/queues.py for the promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.core.queues import LATER, QueueSettings
from perdure.storage.chain import first_link
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways
from perdure.storage.queues import (
    AHEAD_MAX,
    HOLDERS_MAX,
    QueueCounts,
    QueueRow,
    Standing,
    changed_queue,
    merged_counts,
    overrides_json,
    queue_row,
    settings_json,
)
from perdure.storage.records import NewRun


class PostgresQueues:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def define(self, name: str, settings: QueueSettings, *, now: float) -> QueueSettings | None:
        return await self._ways.write(_define, (name,), settings, float(now))

    async def change(
        self,
        name: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        draining: bool | None = None,
        now: float,
    ) -> QueueRow:
        said = {"overrides": overrides, "paused": paused, "draining": draining}
        return await self._ways.write(_change, (name,), said, float(now))

    async def all(self) -> list[QueueRow]:
        return await self._ways.read(_all)

    async def counts(self, *, now: float) -> list[QueueCounts]:
        return await self._ways.read(_counts, float(now))

    async def held(self, name: str) -> int:
        return await self._ways.read(_held, name)

    async def standing(self, run: int) -> Standing | None:
        return await self._ways.read(_standing, run)


async def _define(
    db: Database, named: tuple[str], settings: QueueSettings, now: float
) -> QueueSettings | None:
    before = await _get(db, named[0])
    if before is None or before.defined != settings:
        before = await _locked(db, named[0], now)
        await _put(db, before, changed_queue(before, named[0], defined=settings, now=now))
    return before.defined


async def _change(db: Database, named: tuple[str], said: dict[str, Any], now: float) -> QueueRow:
    before = await _locked(db, named[0], now)
    after = changed_queue(before, named[0], **said, now=now)
    await _put(db, before, after)
    return after


async def _locked(db: Database, name: str, now: float) -> QueueRow:
    """A queue's row, made if it is missing, which nobody else can change or claim from before the transaction's end."""
    await db.run("make_queue", name=name, changed_at=now)
    (row,) = await db.rows("lock_queue", name=name)
    return queue_row(row)


async def _put(db: Database, before: QueueRow, row: QueueRow) -> None:
    settings = row.settings
    lanes: dict[str, Any] = {"name": row.name, "keyed": settings.keyed, "ranked": settings.priority}
    await db.run(
        "set_queue",
        **lanes,
        defined=None if row.defined is None else settings_json(row.defined),
        overrides=overrides_json(row.overrides),
        settings=settings_json(settings),
        limited=row.limited,
        paused=row.paused,
        draining=row.draining,
        changed_at=row.changed_at,
    )
    former = before.settings
    if row.limited and not before.limited:
        await db.run("limit_queue", **lanes, now=row.changed_at)
    elif row.limited and (former.keyed, former.priority) != (settings.keyed, settings.priority):
        await db.run("rank_line", **lanes)


async def _get(db: Database, name: str) -> QueueRow | None:
    return next((queue_row(row) for row in await db.rows("queue", name=name)), None)


async def _all(db: Database) -> list[QueueRow]:
    return [queue_row(row) for row in await db.rows("queues")]


async def _counts(db: Database, now: float) -> list[QueueCounts]:
    return merged_counts(
        await db.rows("owned_counts"),
        await db.rows("due_counts", now=now),
        await db.rows("slot_counts"),
        await db.rows("queue_counts"),
    )


async def _held(db: Database, name: str) -> int:
    slots: dict[str, int] = dict(await db.rows("slots", queue=name))
    return sum(slots.values())


async def _standing(db: Database, run: int) -> Standing | None:
    found = await db.rows("standing_of", run=run)
    for queue, _, key, priority, _, slot, lane, rank, wake_at, parent in found:
        row = await _get(db, queue)
        in_line, later = lane is not None, rank == LATER
        if row is None or not row.limited:
            return Standing(row, key, priority, in_line=False, slot=False, later=False)
        slots: dict[str, int] = dict(await db.rows("slots", queue=queue))
        by_key = slots.get(key or "", 0)
        full = row.settings.per_key is not None and key is not None and by_key >= row.settings.per_key
        holders = await db.rows("slot_holders", queue=queue, key=key if full else None, limit=HOLDERS_MAX)
        ahead = 0
        if in_line and not later and wake_at is not None:
            place = {"queue": queue, "rank": rank, "lane": lane, "wake_at": wake_at, "run": run}
            ahead = await db.value("ahead", **place, limit=AHEAD_MAX)
        return Standing(
            row,
            key,
            priority,
            in_line=in_line,
            slot=slot,
            later=later,
            ahead=ahead,
            held=sum(slots.values()),
            held_by_key=by_key,
            holders=[id for (id,) in holders],
            parent_holds=parent is not None and bool(await db.value("holds_slot", run=parent, queue=queue)),
        )
    return None


# -- runs of which there may be only one ----------------------------------------------------------------


async def stands_for(db: Database, run: NewRun) -> int | None:
    """The live run that a start means by its dedup, if it has no other: nobody else may be made then.

    A run that nobody has driven takes over what a debounced start brings; one that has begun leaves its dedup to it.
    Else the dedup is this transaction's: nobody else makes a run with it before its end.
    """
    if run.follows is None and await db.rows("keys_of", ids=[run.id]):
        return None  # it means the run with its id
    while True:
        await db.run("make_dedup", dedup=run.dedup)
        locked = await db.rows("lock_dedup", dedup=run.dedup)
        if locked:
            break
    ((holder,),) = locked
    assert isinstance(holder, int)
    live = await db.rows("holds_dedup", run=holder)
    if not live:
        return None
    if not run.debounce:
        return holder
    replaced = await db.run(
        "replace_unbegun",
        run=holder,
        workflow=run.workflow,
        fingerprint=run.fingerprint,
        now=float(run.created_at),
        key=run.key,
        priority=run.priority,
        wake_at=float(run.wake_at),
        at_most=run.at_most,
    )
    if replaced:
        ((id, generation),) = await db.rows("known_as", run=holder)
        chain = first_link(id, generation, run.first_event)
        await db.run("replace_first_event", run=holder, link=chain, data=run.first_event)
        await db.run("set_chains", runs=[holder], chains=[chain])
        return holder
    live = await db.rows("holds_dedup", run=holder)  # again: it may have begun, or ended, meanwhile
    if not live:
        return None
    if live == [(False,)]:
        return holder  # of another workflow: whoever starts this is told
    await db.run("free_dedup", run=holder)
    return None
