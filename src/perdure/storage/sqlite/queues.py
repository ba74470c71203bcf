"""The queues of a SQLite store, and runs of which there may be only one. See storage/queues.py for the promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perdure.core.queues import LATER, QueueSettings
from perdure.storage.chain import first_link
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
from perdure.storage.sqlite.database import Database


class SqliteQueues:
    """See QueueStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def define(self, name: str, settings: QueueSettings, *, now: float) -> QueueSettings | None:
        before: QueueSettings | None = await self._write(_define, name, settings, now)
        return before

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
        row: QueueRow = await self._write(_change, name, said, now)
        return row

    async def all(self) -> list[QueueRow]:
        rows: list[QueueRow] = await self._read(_all)
        return rows

    async def counts(self, *, now: float) -> list[QueueCounts]:
        counts: list[QueueCounts] = await self._read(_counts, now)
        return counts

    async def held(self, name: str) -> int:
        held: int = await self._read(_held, name)
        return held

    async def standing(self, run: int) -> Standing | None:
        standing: Standing | None = await self._read(_standing, run)
        return standing


# -- on a thread's connection ---------------------------------------------------------------------------


def _define(db: Database, name: str, settings: QueueSettings, now: float) -> QueueSettings | None:
    before = _get(db, name)
    if before is None or before.defined != settings:
        _put(db, before, changed_queue(before, name, defined=settings, now=now))
    return None if before is None else before.defined


def _change(db: Database, name: str, said: dict[str, Any], now: float) -> QueueRow:
    before = _get(db, name)
    after = changed_queue(before, name, **said, now=now)
    _put(db, before, after)
    return after


def _put(db: Database, before: QueueRow | None, row: QueueRow) -> None:
    settings = row.settings
    lanes: dict[str, Any] = {"name": row.name, "keyed": settings.keyed, "ranked": settings.priority}
    db.run(
        "put_queue",
        {
            **lanes,
            "defined": None if row.defined is None else settings_json(row.defined),
            "overrides": overrides_json(row.overrides),
            "settings": settings_json(settings),
            "limited": row.limited,
            "paused": row.paused,
            "draining": row.draining,
            "changed_at": row.changed_at,
        },
    )
    if row.limited and not (before is not None and before.limited):
        db.run("limit_queue", {**lanes, "now": row.changed_at})
    elif before is not None and row.limited:
        former = before.settings
        if (former.keyed, former.priority) != (settings.keyed, settings.priority):
            db.run("rank_line", lanes)


def _get(db: Database, name: str) -> QueueRow | None:
    return next((queue_row(row) for row in db.rows("queue", {"name": name})), None)


def _all(db: Database) -> list[QueueRow]:
    return [queue_row(row) for row in db.rows("queues")]


def _counts(db: Database, now: float) -> list[QueueCounts]:
    return merged_counts(
        db.rows("owned_counts"),
        db.rows("due_counts", {"now": now}),
        db.rows("slot_counts"),
        db.rows("queue_counts"),
    )


def _held(db: Database, name: str) -> int:
    slots: dict[str, int] = dict(db.rows("slots", {"queue": name}))
    return sum(slots.values())


def _standing(db: Database, run: int) -> Standing | None:
    for queue, _, key, priority, _, slot, lane, rank, wake_at, parent in db.rows("standing_of", {"run": run}):
        row = _get(db, queue)
        in_line, later = lane is not None, rank == LATER
        if row is None or not row.limited:
            return Standing(row, key, priority, in_line=False, slot=False, later=False)
        slots: dict[str, int] = dict(db.rows("slots", {"queue": queue}))
        by_key = slots.get(key or "", 0)
        full = row.settings.per_key is not None and key is not None and by_key >= row.settings.per_key
        holders = db.rows(
            "slot_holders", {"queue": queue, "key": key if full else None, "limit": HOLDERS_MAX}
        )
        ahead = 0
        if in_line and not later and wake_at is not None:
            place = {"queue": queue, "rank": rank, "lane": lane, "wake_at": wake_at, "run": run}
            ahead = db.value("ahead", {**place, "limit": AHEAD_MAX})
        return Standing(
            row,
            key,
            priority,
            in_line=in_line,
            slot=bool(slot),
            later=later,
            ahead=ahead,
            held=sum(slots.values()),
            held_by_key=by_key,
            holders=[id for (id,) in holders],
            parent_holds=parent is not None and bool(db.value("holds_slot", {"run": parent, "queue": queue})),
        )
    return None


# -- runs of which there may be only one ----------------------------------------------------------------


def stands_for(db: Database, run: NewRun) -> int | None:
    """The live run that a start means by its dedup, if it has no other: nobody else may be made then.

    A run that nobody has driven takes over what a debounced start brings; one that has begun leaves its dedup to it.
    """
    if run.follows is None and db.rows("key_of", {"id": run.id}):
        return None  # it means the run with its id
    holder: int | None = db.value("dedup_holder", {"dedup": run.dedup})
    if holder is None or not run.debounce:
        return holder
    replaced = db.run(
        "replace_unbegun",
        {
            "run": holder,
            "workflow": run.workflow,
            "fingerprint": run.fingerprint,
            "now": run.created_at,
            "key": run.key,
            "priority": run.priority,
            "wake_at": run.wake_at,
            "at_most": run.at_most,
        },
    )
    if replaced:
        ((id, generation),) = db.rows("known_as", {"run": holder})
        chain = first_link(id, generation, run.first_event)
        db.run("replace_first_event", {"run": holder, "link": chain, "data": run.first_event})
        db.run("set_chain", {"run": holder, "chain": chain})
        return holder
    if not db.value("has_begun", {"run": holder}):
        return holder  # of another workflow: whoever starts this is told
    db.run("free_dedup", {"run": holder})
    return None
