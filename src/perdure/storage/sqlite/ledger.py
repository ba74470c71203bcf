"""The ledger of a SQLite store. See storage/ledger.py for what is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from perdure.storage.ledger import (
    Book,
    Entry,
    Inherit,
    Line,
    Query,
    Total,
    charge_of,
    columns,
    days_of,
    entry_of,
    lines_of,
    moment_of,
    total_of,
)
from perdure.storage.records import Append
from perdure.storage.sqlite.budgets import settle
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json


class SqliteLedger:
    """See LedgerStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def book(self, run: int, book: Book) -> None:
        await self._write(write, run, book)

    async def report(self, query: Query) -> list[Line]:
        lines: list[Line] = await self._read(_report, query)
        return lines

    async def totals(self) -> list[Total]:
        found: list[Total] = await self._read(_totals)
        return found

    async def receive(self, origin: str, totals: Sequence[Total]) -> None:
        await self._write(_receive, origin, totals)

    async def entries(self, run: int) -> list[Entry]:
        found: list[Entry] = await self._read(_entries, run)
        return found


def book(db: Database, append: Append, effect: Book) -> None:
    write(db, append.run if effect.run is None else effect.run, effect)


def write(db: Database, run: int, effect: Book) -> None:
    if effect.closes is not None:
        db.run("close_usage", {"run": run, "id": effect.closes})
    if effect.loses is not None:
        db.run("lose_usage", {"run": run, "id": effect.loses})
    fresh: list[Entry] = []
    budgets = effect.held
    place = db.rows("place_of_run", {"run": run}) if effect.entries else []
    if place:
        workflow, key = place[0][0], _key_of(db, run)
        budgets = budgets or bool(place[0][3])
        fresh = [
            entry
            for entry in effect.entries
            if db.run("put_entry", {"run": run, **columns(entry, workflow, key)})
        ]
    if budgets and (charge := charge_of(run, effect, fresh)) is not None:
        settle(db, [charge], moment_of(effect))


def inherit(db: Database, append: Append, effect: Inherit) -> None:
    if not db.rows("any_usage"):
        return
    donors = db.rows("generation_key", {"id": effect.donor, "generation": effect.generation})
    children = [key for id in effect.children for key, *_ in db.rows("key_of", {"id": id})]
    ((workflow, *_),) = db.rows("place_of_run", {"run": append.run})
    db.run(
        "inherit_usage",
        {
            "run": append.run,
            "donor": donors[0][0] if donors else None,
            "steps": as_json(list(effect.steps)),
            "children": as_json(sorted(_family(db, children, ended=False))),
            "renamed": as_json(dict(effect.renamed)),
            "workflow": workflow,
            "key": _key_of(db, append.run),
        },
    )


def spare(db: Database, worker: int) -> None:
    """The runs of this worker lose their driver: what they have paid for needn't be paid again."""
    if db.rows("any_usage"):
        runs = [run for run, *_ in db.rows("owned", {"worker": worker})]
        db.run("spare_usage", {"runs": as_json(sorted(_family(db, runs, ended=True)))})


def _key_of(db: Database, run: int | None) -> str | None:
    while run is not None:
        found = db.rows("place_of_run", {"run": run})
        if not found:
            return None
        _, key, run, _ = found[0]
        if key is not None:
            return str(key)
    return None


def _family(db: Database, runs: Iterable[int], *, ended: bool) -> Collection[int]:
    """These runs, their earlier generations, and what all of them have started; if `ended`, what of that is over."""
    found = set(runs)
    frontier = found
    while frontier:
        kin = db.rows("kin", {"runs": as_json(sorted(frontier)), "ended": int(ended)})
        frontier = {run for (run,) in kin} - found
        found = found | frontier
    return found


def _report(db: Database, query: Query) -> list[Line]:
    bindings: dict[str, Value] = {
        "by": None if query.by is None else str(query.by),
        "runs": None,
        "workflow": query.workflow,
        "key": query.key,
        "since": query.since,
        "until": query.until,
        "within": query.within,
    }
    bindings["first"], bindings["end"] = days_of(query)
    if query.run is not None:
        keys = [key for key, *_ in db.rows("key_of", {"id": query.run})]
        bindings["runs"] = as_json(sorted(_family(db, keys, ended=False)))
        return lines_of(db.rows("usage_of", bindings), query)
    return lines_of(db.rows("usage_report" if query.since is None else "usage_report_since", bindings), query)


def _totals(db: Database) -> list[Total]:
    return [total_of(row) for row in db.rows("usage_totals")]


def _receive(db: Database, origin: str, totals: Sequence[Total]) -> None:
    db.run("forget_totals_from", {"origin": origin})
    rows = [msgspec.structs.astuple(total) for total in totals]
    db.many("put_totals", [(origin, *place, *figures) for *place, figures in rows])


def _entries(db: Database, run: int) -> list[Entry]:
    return [entry_of(row) for row in db.rows("usage_entries", {"run": run})]
