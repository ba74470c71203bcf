"""Removing runs that have ended from a SQLite store. See storage/retention.py for what is promised.

Each verb is one job of the writer, so an append waits for one of them at most, and shares its transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.core.namespaces import prefix_of
from perdure.storage.budgets import decode_definition
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
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.rows import as_json

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


#: For each row that may be removed so many entries of the ledger may be added to the totals: reading is quicker.
ENTRIES = 10


class SqliteRetention:
    """See Retaining.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def turn(self, holder: str, *, now: float, until: float, rules: bytes = b"") -> Turn | None:
        turn: Turn | None = await self._write(_turn, holder, now, until, rules)
        return turn

    async def sweeping(self) -> Sweeping | None:
        found: Sweeping | None = await self._read(_sweeping)
        return found

    async def note(self, holder: str, plan: bytes | None) -> bool:
        noted: bool = await self._write(_note, holder, plan)
        return noted

    async def leave(self, holder: str) -> None:
        await self._write(_leave, holder)

    async def ended(
        self, *, before: float, after: tuple[float, int] = (0.0, 0), limit: int
    ) -> list[EndedRun]:
        found: list[EndedRun] = await self._read(_ended, before, after, limit)
        return found

    async def orphans(self, *, limit: int) -> list[Orphan]:
        found: list[Orphan] = await self._read(_orphans, limit)
        return found

    async def needed(self, runs: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = await self._read(_needed, runs)
        return found

    async def remove(
        self, runs: Sequence[tuple[int, int]], *, archive: str = "", now: float, rows: int
    ) -> list[Removal]:
        removed: list[Removal] = await self._write(_remove, runs, archive, now, rows)
        return removed

    async def sweep(self, *, rows: int, bytes: int) -> Swept:
        swept: Swept = await self._write(_sweep, rows, bytes)
        return swept


# -- on a thread's connection ---------------------------------------------------------------------------


def _turn(db: Database, holder: str, now: float, until: float, rules: bytes) -> Turn | None:
    given: dict[str, Value] = {"holder": holder, "now": now, "until": until, "rules": rules}
    for (plan,) in db.rows("take_turn", given):
        return Turn(plan)
    return None


def _sweeping(db: Database) -> Sweeping | None:
    for row in db.rows("sweeping"):
        return Sweeping(*row)
    return None


def _note(db: Database, holder: str, plan: bytes | None) -> bool:
    return db.run("note_plan", {"holder": holder, "plan": plan}) == 1


def _leave(db: Database, holder: str) -> None:
    db.run("leave_turn", {"holder": holder})


def _ended(db: Database, before: float, after: tuple[float, int], limit: int) -> list[EndedRun]:
    given: dict[str, Value] = {"before": before, "after": after[0], "run": after[1], "limit": limit}
    return [_ended_run(row) for row in db.rows("ended_runs", given)]


def _ended_run(row: Row) -> EndedRun:
    values: list[Any] = [*row[:-1], bool(row[-1])]
    return EndedRun(*values)


def _orphans(db: Database, limit: int) -> list[Orphan]:
    return [Orphan(EndedRun(*row), archive) for *row, archive in db.rows("orphans", {"limit": limit})]


def _needed(db: Database, runs: Sequence[int]) -> dict[int, str]:
    if db.rows("mark"):
        return dict.fromkeys(runs, MOVING)
    found: dict[int, str] = {}
    for run in runs:
        for live, held in db.rows("family", {"run": run, "limit": FAMILY_MAX}):
            if live or held:
                found[run] = FAMILY if live else HELD
        if run not in found and db.value("forked", {"run": run}):
            found[run] = FORKED
    return found


def _remove(
    db: Database, runs: Sequence[tuple[int, int]], archive: str, now: float, rows: int
) -> list[Removal]:
    if db.rows("mark"):
        return [Removal.STAYS] * len(runs)
    each = as_json(
        [
            definition.declared.name
            for definition in (decode_definition(data) for (data,) in db.rows("budgets"))
            if definition.declared.owner == "run"
        ]
    )
    removed: list[Removal] = []
    left = rows * ENTRIES
    for run, seq in runs:
        if left > 0:
            became, read = _remove_one(db, run, seq, archive, now, rows, left, each)
        else:
            became, read = Removal.PART, 0
        removed.append(became)
        left -= read
    return removed


def _remove_one(
    db: Database, run: int, seq: int, archive: str, now: float, rows: int, entries: int, budgets: str
) -> tuple[Removal, int]:
    """What became of it, and how many entries of the ledger were read for that."""
    id: Any = db.value("removable", {"run": run, "seq": seq})
    if id is None:
        return Removal.STAYS, 0
    keys = [key for (key,) in db.rows("earlier_generations", {"id": id, "limit": rows})]
    if len(keys) < rows and db.run("drop_updates", {"id": id, "limit": rows}) < rows:
        keys.append(run)
    keys, read = _some(db, keys, entries)
    part = run not in keys
    if not part:
        db.run("remain_streams", {"id": id})
        db.run("drop_streams", {"id": id})
        db.run("drop_accounts_of", {"id": id, "names": budgets})
    gone = {"runs": as_json(keys)}
    if read:
        db.run("keep_usage", {**gone, "namespace": prefix_of(id)})
    db.many("remain", [(key, archive, now) for key in keys])
    db.run("erase_donors", gone)
    db.run("erase_runs", gone)
    return Removal.PART if part else Removal.GONE, read


def _some(db: Database, keys: list[Any], most: int) -> tuple[list[Any], int]:
    """The first of these runs, with at most so many entries of the ledger but for those of the last; and how many."""
    read = 0
    if db.rows("any_usage"):
        for place, key in enumerate(keys):
            if read >= most:
                return keys[:place], read
            count: Any = db.value("entries_of_run", {"run": key})
            read += count
    return keys, read


def _sweep(db: Database, rows: int, most: int) -> Swept:
    runs = [run for (run,) in db.rows("remainders", {"limit": AT_ONCE})]
    streams = [stream for (stream,) in db.rows("remaining_streams", {"limit": AT_ONCE})]
    dropped = size = 0
    for keys, tables in ((runs, _HEAVY), (streams, (("heavy_items", "drop_item"),))):
        for find, drop in tables if keys else ():
            chosen, heavy = _choose(db, find, keys, rows - dropped, most - size)
            db.many(drop, chosen)
            dropped, size = dropped + len(chosen), size + heavy
            if dropped >= rows or size >= most:
                return Swept(dropped, size, done=False)
    for table in _LIGHT if runs else ():
        dropped += db.run(f"sweep_{table}", {"runs": as_json(runs), "limit": rows - dropped})
        if dropped >= rows:
            return Swept(dropped, size, done=False)
    db.run("forget_remaining_streams", {"runs": as_json(streams)})
    db.run("orphan_live", {"runs": as_json(runs)})
    db.run("bare", {"runs": as_json(runs)})
    dropped += db.run("forget_remainders", {"limit": AT_ONCE})
    return Swept(dropped, size, done=len(runs) < AT_ONCE and len(streams) < AT_ONCE)


def _choose(
    db: Database, find: str, keys: Sequence[int], rows: int, most: int
) -> tuple[list[tuple[int, int]], int]:
    """Places of rows to drop, and their bytes: as many as may be, but one at least."""
    chosen: list[tuple[int, int]] = []
    size = 0
    for key, place, length in db.rows(find, {"runs": as_json(keys), "limit": rows}):
        if chosen and size + length > most:
            return chosen, most
        chosen.append((key, place))
        size += length
    return chosen, size
