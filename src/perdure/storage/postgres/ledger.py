"""The ledger of a PostgreSQL store. See storage/ledger.py for what is promised."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

import msgspec

from perdure.storage.budgets import Charge
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
from perdure.storage.postgres.budgets import settle
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Append


class PostgresLedger:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def book(self, run: int, book: Book) -> None:
        await self._ways.beside(_book_alone, run, book, marked=False)

    async def report(self, query: Query) -> list[Line]:
        return await self._ways.read(_report, query)

    async def totals(self) -> list[Total]:
        return await self._ways.read(_totals)

    async def receive(self, origin: str, totals: Sequence[Total]) -> None:
        await self._ways.beside(_receive, origin, totals, marked=False)

    async def entries(self, run: int) -> list[Entry]:
        return await self._ways.read(_entries, run)


async def _book_alone(db: Database, run: int, book: Book) -> None:
    await db.rows("keep_run", run=run)  # else it may be removed meanwhile, and this would be in no sum
    charge = await write(db, run, book)
    if charge is not None:
        await settle(db, [charge], moment_of(book))


async def book(db: Database, append: Append, effect: Book) -> Charge | None:
    """Returns what budgets are to be charged for, when all else of the transaction is done."""
    return await write(db, append.run if effect.run is None else effect.run, effect)


async def write(db: Database, run: int, effect: Book) -> Charge | None:
    """The same."""
    if effect.closes is not None:
        await db.run("close_usage", run=run, id=effect.closes)
    if effect.loses is not None:
        await db.run("lose_usage", run=run, id=effect.loses)
    fresh: list[Entry] = []
    budgets = effect.held
    place = await db.rows("place_of_run", run=run) if effect.entries else []
    if place:
        workflow, key = place[0][0], await _key_of(db, run)
        budgets = budgets or bool(place[0][3])
        fresh = [
            entry
            for entry in effect.entries
            if await db.run("put_entry", run=run, **columns(entry, workflow, key))
        ]
    return charge_of(run, effect, fresh) if budgets else None


async def inherit(db: Database, append: Append, effect: Inherit) -> None:
    if not await db.rows("any_usage"):
        return
    donor = await db.value("generation_key", id=effect.donor, generation=effect.generation)
    named = await db.rows("keys_of", ids=list(effect.children)) if effect.children else []
    ((workflow, *_),) = await db.rows("place_of_run", run=append.run)
    await db.run(
        "inherit_usage",
        run=append.run,
        donor=donor,
        steps=list(effect.steps),
        renamed=json.dumps(dict(effect.renamed)),
        children=sorted(await _family(db, [key for _, key, *_ in named], ended=False)),
        workflow=workflow,
        key=await _key_of(db, append.run),
    )


async def spare(db: Database, worker: int) -> None:
    """The runs of this worker lose their driver: what they have paid for needn't be paid again."""
    if await db.rows("any_usage"):
        runs = [run for run, *_ in await db.rows("owned", worker=worker)]
        await db.run("spare_usage", runs=sorted(await _family(db, runs, ended=True)))


async def _key_of(db: Database, run: int | None) -> str | None:
    while run is not None:
        found = await db.rows("place_of_run", run=run)
        if not found:
            return None
        _, key, run, _ = found[0]
        if key is not None:
            return str(key)
    return None


async def _family(db: Database, runs: Iterable[int], *, ended: bool) -> Collection[int]:
    """These runs, their earlier generations, and what all of them have started; if `ended`, what of that is over."""
    found = set(runs)
    frontier = found
    while frontier:
        kin = await db.rows("kin", runs=sorted(frontier), ended=ended)
        frontier = {run for (run,) in kin} - found
        found = found | frontier
    return found


async def _report(db: Database, query: Query) -> list[Line]:
    runs = None
    if query.run is not None:
        keys = [key for _, key, *_ in await db.rows("keys_of", ids=[query.run])]
        runs = sorted(await _family(db, keys, ended=False))
    bounded = "usage_report_of" if runs is not None else "usage_report_since"
    first, end = days_of(query)
    more = {} if runs is not None else {"first": first, "end": end}
    groups = await db.rows(
        "usage_report" if runs is None and query.since is None else bounded,
        by=None if query.by is None else query.by.value,
        runs=runs,
        workflow=query.workflow,
        key=query.key,
        since=query.since,
        until=query.until,
        within=query.within,
        **more,
    )
    return lines_of(groups, query)


async def _totals(db: Database) -> list[Total]:
    return [total_of(row) for row in await db.rows("usage_totals")]


async def _receive(db: Database, origin: str, totals: Sequence[Total]) -> None:
    await db.run("forget_totals_from", origin=origin)
    rows = [msgspec.structs.astuple(total) for total in totals]
    await db.many("put_totals", [(origin, *place, *figures) for *place, figures in rows])


async def _entries(db: Database, run: int) -> list[Entry]:
    return [entry_of(row) for row in await db.rows("usage_entries", run=run)]
