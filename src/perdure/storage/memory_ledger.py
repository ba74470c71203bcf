"""The ledger of a memory store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from perdure.core.namespaces import prefix_of
from perdure.storage.ledger import (
    DAY,
    FIGURES,
    Book,
    Entry,
    EntryState,
    Group,
    Inherit,
    Line,
    Query,
    Share,
    Total,
    charge_of,
    columns,
    days_of,
    entry_of,
    lines_of,
    moment_of,
)
from perdure.storage.memory_budgets import settle
from perdure.storage.records import Append

#: The Db, which knows the rows of this module.
Db: TypeAlias = Any

#: What totals are told apart by, as in `Total`.
Kept: TypeAlias = tuple[str, int, str, str, str | None, str]


class Row(msgspec.Struct):
    """One entry, as it is kept. The fields are the columns of the other stores' table, but for the run's key."""

    id: int
    state: str
    step: str
    name: str
    attempt: int
    at: float
    epoch: int
    errand: str
    workflow: str
    key: str | None
    model: str | None
    provider: str | None
    response: str | None
    input: int
    output: int
    cached: int
    written: int
    reasoning: int
    cost: int | None
    price: str | None
    spared: int = 0
    counted: bool = False


class MemoryLedger:
    """See LedgerStore.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Db], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def book(self, run: int, book: Book) -> None:
        write(self._database(), run, book)
        self._changed()

    async def report(self, query: Query) -> list[Line]:
        db = self._database()
        return lines_of([*_groups(db, query), *_kept(db, query)], query)

    async def totals(self) -> list[Total]:
        sums: dict[Kept, list[int]] = defaultdict(lambda: [0] * len(FIGURES))
        for (_, place), figures in self._database().usage_totals.items():
            _add(sums[place], figures)
        return [Total(*place, tuple(figures)) for place, figures in sums.items()]

    async def receive(self, origin: str, totals: Sequence[Total]) -> None:
        kept = self._database().usage_totals
        for place in [place for place in kept if place[0] == origin]:
            del kept[place]
        for total in totals:
            *place, figures = msgspec.structs.astuple(total)
            kept[origin, tuple(place)] = list(figures)
        self._changed()

    async def entries(self, run: int) -> list[Entry]:
        db = self._database()
        rows = sorted(db.usage.get(run, {}).values(), key=lambda row: (row.at, row.id))
        return [_entry(row, _state(db, run, row)) for row in rows]


def _entry(row: Row, state: str) -> Entry:
    who = (row.id, state, row.step, row.name, row.attempt, row.at, row.epoch, row.errand)
    tokens = (row.input, row.output, row.cached, row.written, row.reasoning)
    return entry_of((*who, row.model, row.provider, *tokens, row.cost, row.price, row.key, row.response))


# -- effects --------------------------------------------------------------------------------------------


def book(db: Db, append: Append, effect: Book) -> None:
    write(db, append.run if effect.run is None else effect.run, effect)


def write(db: Db, run: int, effect: Book) -> None:
    if run not in db.runs:
        return
    rows = db.usage.setdefault(run, {})
    if effect.closes is not None and effect.closes in rows and rows[effect.closes].state == EntryState.OPEN:
        del rows[effect.closes]
    if effect.loses is not None and effect.loses in rows:
        rows[effect.loses].state = EntryState.UNKNOWN
    fresh: list[Entry] = []
    for entry in effect.entries:
        workflow, key = db.runs[run].workflow, _key_of(db, run)
        if entry.id not in rows:
            rows[entry.id] = Row(**columns(entry, workflow, key))
            fresh.append(entry)
    if (effect.held or db.budgets.definitions) and (charge := charge_of(run, effect, fresh)) is not None:
        settle(db, [charge], moment_of(effect))


def inherit(db: Db, append: Append, effect: Inherit) -> None:
    donor = db.find_generation(effect.donor, effect.generation)
    if donor is None:
        return
    found = [
        msgspec.structs.replace(row, step=effect.renamed.get(row.step, row.step))
        for row in db.usage.get(donor.run, {}).values()
        if row.step in effect.steps
    ]
    children = [child.run for id in effect.children if (child := db.find_id(id)) is not None]
    for run in _family(db, children, ended=False):
        found += db.usage.get(run, {}).values()
    rows = db.usage.setdefault(append.run, {})
    for row in found:
        if row.state in (EntryState.SPENT, EntryState.REUSED):
            own = msgspec.structs.replace(
                row,
                state=EntryState.REUSED.value,
                spared=0,
                counted=False,
                workflow=db.runs[append.run].workflow,
                key=_key_of(db, append.run),
            )
            rows.setdefault(row.id, own)


def spare(db: Db, runs: Iterable[int]) -> None:
    """These runs lose their driver: what they have paid for needn't be paid again."""
    if db.usage:
        for run in _family(db, runs, ended=True):
            for row in db.usage.get(run, {}).values():
                if row.state in (EntryState.SPENT, EntryState.REUSED):
                    row.spared += 1


def fold(db: Db, runs: Iterable[int]) -> None:
    """These runs are about to be removed: what they have spent is kept."""
    for run in runs:
        namespace = prefix_of(db.runs[run].id)
        for row in db.usage.get(run, {}).values():
            if not row.counted:
                state = EntryState.UNKNOWN.value if row.state == EntryState.OPEN else row.state
                place = (namespace, int(row.at // DAY), row.workflow, row.name, row.model, state)
                _add(db.usage_totals.setdefault(("", place), [0] * len(FIGURES)), _figures(row))


def packed(db: Db, run: int) -> list[tuple[Any, ...]]:
    """The entries of a run as rows, for a move."""
    rows = [msgspec.structs.asdict(row) for row in db.usage.get(run, {}).values()]
    return [
        tuple(
            {
                **row,
                "state": EntryState.UNKNOWN.value if row["state"] == EntryState.OPEN else row["state"],
            }.values()
        )
        for row in rows
    ]


def _key_of(db: Db, run: int | None) -> str | None:
    while run is not None and run in db.runs:
        key: str | None = db.runs[run].key
        if key is not None:
            return key
        run = db.runs[run].parent
    return None


def _family(db: Db, runs: Iterable[int], *, ended: bool) -> Collection[int]:
    """These runs, their earlier generations, and what all of them have started; if `ended`, what of that is over."""
    found = set(runs)
    frontier = list(found)
    while frontier:
        run = frontier.pop()
        kin = [child for child in db.children.get(run, ()) if db.runs[child].ended or not ended]
        id = db.runs[run].id
        kin += [other.run for other in db.runs.values() if other.id == id and other.next is not None]
        frontier += [other for other in kin if other not in found]
        found |= set(kin)
    return found


# -- sums -----------------------------------------------------------------------------------------------


def _state(db: Db, run: int, row: Row) -> str:
    if row.state != EntryState.OPEN:
        return row.state
    driven = db.find_id(row.errand) if row.errand else db.runs[run]
    here = driven is not None and driven.owner is not None and driven.epoch == row.epoch
    return row.state if here else EntryState.UNKNOWN


def _name(db: Db, run: int, row: Row, by: Share | None) -> str | None:
    match by:
        case Share.STEP:
            return row.name
        case Share.WORKFLOW:
            return row.workflow
        case Share.MODEL:
            return row.model
        case Share.KEY:
            return row.key
        case Share.DAY | Share.MONTH:
            return _date(row.at, by)
        case Share.RUN:
            return str(db.runs[run].id)
        case None:
            return None


def _groups(db: Db, query: Query) -> list[Group]:
    runs: Collection[int] = db.usage
    if query.run is not None:
        key = db.keys.get(query.run)
        runs = _family(db, [] if key is None else [key], ended=False)
    groups: dict[tuple[str | None, str], list[int]] = defaultdict(lambda: [0] * len(FIGURES))
    for run in runs:
        if query.within is not None and not db.runs[run].id.startswith(query.within):
            continue
        for row in db.usage.get(run, {}).values():
            if (
                (query.workflow is None or row.workflow == query.workflow)
                and (query.key is None or row.key == query.key)
                and (query.since is None or row.at >= query.since)
                and (query.until is None or row.at < query.until)
                and (query.run is not None or not row.counted)
            ):
                _add(groups[_name(db, run, row, query.by), _state(db, run, row)], _figures(row))
    return [(*place, False, *sums) for place, sums in groups.items()]


def _kept(db: Db, query: Query) -> Iterator[Group]:
    """What removed runs have spent, of which nobody knows the key."""
    if query.run is not None or query.key is not None:
        return
    first, end = days_of(query)
    for (_, (namespace, day, workflow, name, model, state)), figures in db.usage_totals.items():
        if first <= day < end and query.within in (None, namespace) and query.workflow in (None, workflow):
            names = {Share.STEP: name, Share.WORKFLOW: workflow, Share.MODEL: model}
            names |= {by: _date(day * DAY, by) for by in (Share.DAY, Share.MONTH)}
            removed = query.by is not None and query.by not in names
            yield (None if query.by is None else names.get(query.by), state, removed, *figures)


def _date(at: float, by: Share) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d" if by is Share.DAY else "%Y-%m")


def _add(sums: list[int], figures: Iterable[int]) -> None:
    for place, figure in enumerate(figures):
        sums[place] += figure


def _figures(row: Row) -> tuple[Any, ...]:
    unpriced = int(row.cost is None)
    tokens = (row.input, row.output, row.cached, row.written, row.reasoning)
    again = row.spared
    spared = (again, again * row.input, again * row.output, again * (row.cost or 0), again * unpriced)
    return (1, *tokens, row.cost or 0, unpriced, *spared)
