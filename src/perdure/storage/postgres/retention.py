"""Removing runs that have ended from a PostgreSQL store. See storage/retention.py for what is promised.

Each verb is a transaction of its own beside the clients' lane, and holds locks of a few runs that have ended only. A
repeat of one finds nothing left to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from perdure.core.namespaces import prefix_of
from perdure.storage.budgets import decode_definition
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.disk import LINGER, current_range
from perdure.storage.postgres.ways import Ways
from perdure.storage.retention import (
    AT_ONCE,
    FAMILY,
    FAMILY_MAX,
    FORKED,
    HELD,
    MOVING,
    EndedRun,
    Orphan,
    Removal,
    Sweeping,
    Swept,
    Turn,
)

#: Rows that may be large: how they are found with their sizes, and dropped.
_HEAVY = (("heavy_events", "drop_events"), ("heavy_inbox", "drop_inbox_item"))
#: Rows that are small.
_LIGHT = (
    "mail_keys",
    "step_details",
    "callbacks",
    "attributes",
    "patches",
    "publication_waits",
    "usage",
    "budget_waits",
    "stream_writers",
)


class PostgresRetention:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def turn(self, holder: str, *, now: float, until: float, rules: bytes = b"") -> Turn | None:
        return await self._ways.beside(_turn, holder, now, until, rules, marked=False)

    async def sweeping(self) -> Sweeping | None:
        return await self._ways.read(_sweeping)

    async def note(self, holder: str, plan: bytes | None) -> bool:
        return await self._ways.beside(_note, holder, plan, marked=False)

    async def leave(self, holder: str) -> None:
        await self._ways.beside(_leave, holder, marked=False)

    async def ended(
        self, *, before: float, after: tuple[float, int] = (0.0, 0), limit: int
    ) -> list[EndedRun]:
        return await self._ways.read(_ended, before, after, limit)

    async def orphans(self, *, limit: int) -> list[Orphan]:
        return await self._ways.read(_orphans, limit)

    async def needed(self, runs: Sequence[int]) -> dict[int, str]:
        return await self._ways.read(_needed, runs)

    async def remove(
        self, runs: Sequence[tuple[int, int]], *, archive: str = "", now: float, rows: int
    ) -> list[Removal]:
        return await self._ways.beside(_remove, runs, archive, now, rows, marked=True)

    async def sweep(self, *, rows: int, bytes: int) -> Swept:
        return await self._ways.beside(_sweep, rows, bytes, marked=False)


# -- on a connection ------------------------------------------------------------------------------------


async def _turn(db: Database, holder: str, now: float, until: float, rules: bytes) -> Turn | None:
    given = {"now": float(now), "until": float(until)}
    for (plan,) in await db.rows("take_turn", holder=holder, rules=rules, **given):
        return Turn(plan)
    return None


async def _sweeping(db: Database) -> Sweeping | None:
    for row in await db.rows("sweeping"):
        return Sweeping(*row)
    return None


async def _note(db: Database, holder: str, plan: bytes | None) -> bool:
    return await db.run("note_plan", holder=holder, plan=plan) == 1


async def _leave(db: Database, holder: str) -> None:
    await db.run("leave_turn", holder=holder)


async def _ended(db: Database, before: float, after: tuple[float, int], limit: int) -> list[EndedRun]:
    at, run = after
    found = await db.rows("ended_runs", before=float(before), after=float(at), run=run, limit=limit)
    return [EndedRun(*row) for row in found]


async def _orphans(db: Database, limit: int) -> list[Orphan]:
    return [Orphan(EndedRun(*row), archive) for *row, archive in await db.rows("orphans", limit=limit)]


async def _needed(db: Database, runs: Sequence[int]) -> dict[int, str]:
    if await db.rows("mark"):
        return dict.fromkeys(runs, MOVING)
    found: dict[int, str] = {}
    for run in runs:
        for live, held in await db.rows("family", run=run, limit=FAMILY_MAX):
            if live or held:
                found[run] = FAMILY if live else HELD
        if run not in found and await db.value("forked", run=run):
            found[run] = FORKED
    return found


async def _remove(
    db: Database, runs: Sequence[tuple[int, int]], archive: str, now: float, rows: int
) -> list[Removal]:
    if await db.rows("mark"):
        return [Removal.STAYS] * len(runs)
    await db.rows("lock_removable", runs=[run for run, _ in runs])
    definitions = [decode_definition(data) for (data,) in await db.rows("budgets")]
    each = [one.declared.name for one in definitions if one.declared.owner == "run"]
    return [await _remove_one(db, run, seq, archive, float(now), rows, each) for run, seq in runs]


async def _remove_one(
    db: Database, run: int, seq: int, archive: str, now: float, rows: int, budgets: list[str]
) -> Removal:
    id = await db.value("removable", run=run, seq=seq)
    if id is None:
        return Removal.STAYS
    keys = [key for (key,) in await db.rows("earlier_generations", id=id, limit=rows)]
    part = len(keys) == rows or await db.run("drop_updates", id=id, limit=rows) == rows
    if not part:
        keys.append(run)
    if keys and await db.rows("any_usage"):
        await db.run("keep_usage", runs=keys, namespace=prefix_of(id))
    if not part:
        await db.run("remain_streams", id=id)
        await db.run("drop_streams", id=id)
        await db.run("drop_id", id=id, run=run)
        await db.run("drop_dedup", run=run)
        await db.run("erase_runs", runs=keys)
        if budgets:
            await db.run("drop_accounts_of", id=id, names=budgets)
    else:
        await db.run("erase_runs", runs=keys)
    await db.run("remain", runs=keys, archive=archive, now=now)
    await db.run("erase_donors", runs=keys)
    return Removal.PART if part else Removal.GONE


async def _sweep(db: Database, rows: int, most: int) -> Swept:
    given = {"low": await current_range(db), "before": time.time() - LINGER}
    runs = [run for (run,) in await db.rows("remainders", limit=AT_ONCE, **given)]
    streams = [stream for (stream,) in await db.rows("remaining_streams", limit=AT_ONCE)]
    dropped = size = 0
    for keys, tables in ((runs, _HEAVY), (streams, (("heavy_items", "drop_item"),))):
        for find, drop in tables if keys else ():
            chosen, heavy = await _choose(db, find, keys, rows - dropped, most - size)
            if chosen:
                run, place = chosen[-1]  # all before it, in their order, are chosen as well
                await db.run(drop, runs=sorted({key for key, _ in chosen}), run=run, place=place)
            dropped, size = dropped + len(chosen), size + heavy
            if dropped >= rows or size >= most:
                return Swept(dropped, size, done=False)
    for table in _LIGHT if runs else ():
        dropped += await db.run(f"sweep_{table}", runs=runs, limit=rows - dropped)
        if dropped >= rows:
            return Swept(dropped, size, done=False)
    if streams:
        await db.run("forget_remaining_streams", streams=streams)
    if runs:
        await db.run("orphan_live", runs=runs)
        await db.run("bare", runs=runs)
    dropped += await db.run("forget_remainders", limit=AT_ONCE)
    return Swept(dropped, size, done=len(runs) < AT_ONCE and len(streams) < AT_ONCE)


async def _choose(
    db: Database, find: str, keys: Sequence[int], rows: int, most: int
) -> tuple[list[tuple[int, int]], int]:
    """Places of rows to drop, and their bytes: as many as may be, but one at least."""
    chosen: list[tuple[int, int]] = []
    size = 0
    for key, place, length in await db.rows(find, runs=list(keys), limit=rows):
        if chosen and size + length > most:
            return chosen, most
        chosen.append((key, place))
        size += length
    return chosen, size
