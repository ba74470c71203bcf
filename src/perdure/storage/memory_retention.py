"""Removing runs that have ended from a memory store. See storage/retention.py for what is promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perdure.storage.budgets import decode_definition
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_ledger import fold
from perdure.storage.memory_moving import erase_runs
from perdure.storage.memory_run import Run
from perdure.storage.retention import (
    FAMILY,
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


class MemoryRetention:
    """See Retaining.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def sweeping(self) -> Sweeping | None:
        db = self._database()
        holder, until, _ = db.sweeper
        return Sweeping(holder, until, *db.swept) if holder else None

    async def turn(self, holder: str, *, now: float, until: float, rules: bytes = b"") -> Turn | None:
        db = self._database()
        last, ends, plan = db.sweeper
        if last not in ("", holder) and ends > now:
            return None
        db.sweeper = holder, until, plan
        db.swept = now, rules or db.swept[1]
        return Turn(plan)

    async def note(self, holder: str, plan: bytes | None) -> bool:
        db = self._database()
        last, ends, _ = db.sweeper
        if last != holder:
            return False
        db.sweeper = holder, ends, plan
        return True

    async def leave(self, holder: str) -> None:
        db = self._database()
        last, _, plan = db.sweeper
        if last == holder:
            db.sweeper = holder, 0.0, plan

    async def ended(
        self, *, before: float, after: tuple[float, int] = (0.0, 0), limit: int
    ) -> list[EndedRun]:
        db = self._database()
        places = sorted(
            (run.ended_at, run.run)
            for run in db.runs.values()
            if run.ended_at is not None and run.ended_at < before and (run.ended_at, run.run) > after
        )
        return [_ended(db, db.runs[key]) for _, key in places[:limit]]

    async def orphans(self, *, limit: int) -> list[Orphan]:
        db = self._database()
        found = [
            Orphan(_ended(db, run), db.remainders[run.parent])
            for run in db.runs.values()
            if run.parent in db.remainders and run.ended and run.next is None
        ]
        return found[:limit]

    async def needed(self, runs: Sequence[int]) -> dict[int, str]:
        db = self._database()
        if db.move is not None:
            return dict.fromkeys(runs, MOVING)
        found: dict[int, str] = {}
        for key in runs:
            family = list(_family(db, key))
            if any(not run.ended and run.run != key for run in family):
                found[key] = FAMILY
            elif {run.run for run in family} & {run for run, _, _ in db.budgets.holds}:
                found[key] = HELD
            elif key in db.runs and any(
                run.donor == db.runs[key].id and not run.ended for run in db.runs.values()
            ):
                found[key] = FORKED
        return found

    async def remove(
        self, runs: Sequence[tuple[int, int]], *, archive: str = "", now: float, rows: int
    ) -> list[Removal]:
        db = self._database()
        return [_remove(db, key, seq, archive) for key, seq in runs]

    async def sweep(self, *, rows: int, bytes: int) -> Swept:
        db = self._database()
        for run in db.runs.values():
            if run.parent in db.remainders and not run.ended:
                run.parent = run.parent_op = None  # it goes on without the one that started it
        parents = {run.parent for run in db.runs.values()}
        left = {key: archive for key, archive in db.remainders.items() if key in parents}
        gone, db.remainders = len(db.remainders) - len(left), left
        return Swept(gone, 0, done=True)


def _ended(db: MemoryDatabase, run: Run) -> EndedRun:
    assert run.ended_at is not None
    parent = db.runs.get(run.parent) if run.parent is not None else None
    told = None if parent is None else "ended" if parent.ended else "mail" if parent.inbox else "live"
    size, newest = len(run.events), run.next is None
    return EndedRun(run.run, run.id, run.workflow, run.status, run.ended_at, size, told, newest)


def _family(db: MemoryDatabase, key: int) -> Iterator[Run]:
    """A run in all its generations, with everything that these have started."""
    if key not in db.runs:
        return
    going = [run for run in db.runs.values() if run.id == db.runs[key].id]
    for run in going:  # it grows
        yield run
        going += [db.runs[child] for child in db.children.get(run.run, ())]


def _remove(db: MemoryDatabase, key: int, seq: int, archive: str) -> Removal:
    run = db.runs.get(key)
    if run is None or not run.ended or run.next is not None or len(run.events) != seq:
        return Removal.STAYS
    if db.move is not None or key in db.arrivals:
        return Removal.STAYS
    keys = [each.run for each in db.runs.values() if each.id == run.id]
    fold(db, keys)
    erase_runs(db, [run.id])
    definitions = map(decode_definition, db.budgets.definitions.values())
    each = {one.declared.name for one in definitions if one.declared.owner == "run"}
    for account in [one for one in db.budgets.accounts if one.name in each and one.owner == run.id]:
        del db.budgets.accounts[account]
    for wait in [one for one in db.budgets.waits if one[0] in keys]:
        del db.budgets.waits[wait]
    db.remainders |= dict.fromkeys(keys, archive)
    return Removal.GONE
