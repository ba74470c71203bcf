"""What a store keeps of spending, and promises about it.

The ledger has an entry for each call of a language model (or of anything else that is paid for). It is written in the
transaction that records the outcome of the step that has made the call; so there is an entry exactly if there is
an outcome, whatever crashes, and a replay writes none.

    open      an attempt that may spend has begun: what it may use at most, written before its body runs
    spent     a call whose usage is known; an attempt may have several
    unknown   an attempt that was open is over, and nobody knows what it has spent
    reused    a result was taken over from another run, as by a fork: this is what it had cost there

An open entry whose attempt nobody executes any more counts as unknown: its driver has lost the run, which the run's
epoch tells, or the run has ended. So a crash needs no writing to be seen.

When a run is removed, its entries are added to the *totals* in the same transaction, which stay: sums by namespace,
day, workflow, step and model. So a report is the same afterwards, unless it needs the run. An entry that comes back
from an archive is *counted* already: it shows only in what is asked of its run.

An entry belongs to the run whose code asked for the step, and to the key of that run or of its nearest ancestor that
has one. Sums of a run include its earlier generations and everything that it has started.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from perdure.core.usage import Sums, Used
from perdure.storage.budgets import Charge
from perdure.storage.effects import Effect

#: Seconds.
DAY = 86_400


class EntryState(StrEnum):
    """What an entry says."""

    OPEN = "open"
    SPENT = "spent"
    UNKNOWN = "unknown"
    REUSED = "reused"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry.

    Attributes:
        id: a random 63-bit number; a second entry of the run with the same id is left out.
        step, name, attempt: who has spent: the step's id in its run, its durable name, which attempt.
        at: wall-clock seconds.
        epoch: of whoever executes the attempt; tells whether an open one still is.
        errand: the run that executes it, if that isn't the one which is charged.
    """

    id: int
    state: EntryState
    step: str
    name: str
    attempt: int
    at: float
    used: Used
    epoch: int = 0
    errand: str = ""


class Book(Effect, frozen=True, gc=False):
    """Write entries.

    Attributes:
        entries: new ones.
        closes: id of an open entry that is done with: what came of it is known.
        loses: id of an open entry of which nothing will be known.
        run: the run that is charged, if it isn't the one that appends.
        held: money is reserved in budgets under the id that is closed or lost.
    """

    entries: Sequence[Entry] = ()
    closes: int | None = None
    loses: int | None = None
    run: int | None = None
    held: bool = False


class Inherit(Effect, frozen=True, gc=False):
    """Results of another run were taken over: what they had cost there is spared here.

    Attributes:
        donor, generation: that run.
        steps: ids of the steps.
        children: ids of its child runs whose results were taken over.
        renamed: ids that steps have here, by those that they have there, where these differ.
    """

    donor: str
    generation: int
    steps: Sequence[str]
    children: Sequence[str] = ()
    renamed: Mapping[str, str] = {}


class Share(StrEnum):
    """What the sums of a report are told apart by."""

    STEP = "step"
    WORKFLOW = "workflow"
    MODEL = "model"
    KEY = "key"
    DAY = "day"  #: in UTC
    MONTH = "month"  #: in UTC
    RUN = "run"


class Query(msgspec.Struct, frozen=True, gc=False):
    """What a report is about.

    Attributes:
        by: None for one sum.
        run: id of a run; all that belongs to it.
        key: of runs that are there: totals don't know it.
        since, until: wall-clock seconds; an entry at `until` isn't in it. Totals are of whole days, each of which
            counts where it begins.
        within: only runs of the namespace whose ids begin with this.
    """

    by: Share | None = None
    run: str | None = None
    workflow: str | None = None
    key: str | None = None
    since: float | None = None
    until: float | None = None
    within: str | None = None


class Line(msgspec.Struct, frozen=True):
    """One line of a report.

    Attributes:
        name: None where there is none: a call without a key, say.
        removed: it has what removed runs had spent and nobody can tell apart by this any more.
    """

    name: str | None
    sums: Sums
    removed: bool = False


class Total(msgspec.Struct, frozen=True, gc=False):
    """What removed runs of one workflow have spent by one step on one model within a day.

    Attributes:
        namespace: the prefix of their ids.
        day: since 1970, in UTC.
        state: never open.
        figures: `FIGURES`.
    """

    namespace: str
    day: int
    workflow: str
    name: str
    model: str | None
    state: str
    figures: tuple[int, ...]


class LedgerStore(Protocol):
    """The ledger of a store, as `store.ledger`."""

    async def book(self, run: int, book: Book) -> None:
        """Write entries without an append: of an attempt whose outcome nobody waits for. Repeats change nothing."""
        ...

    async def report(self, query: Query) -> list[Line]:
        """Sums, by name; the line without a name is the last but for what was removed. Without `by` there is one line,
        always.
        """
        ...

    async def totals(self) -> list[Total]:
        """What removed runs have spent, also what has come by `receive`."""
        ...

    async def receive(self, origin: str, totals: Sequence[Total]) -> None:
        """Take in totals of another database, in place of what has come from there before.

        Args:
            origin: the token of the move.
        """
        ...

    async def entries(self, run: int) -> list[Entry]:
        """All entries of one generation of a run, in the order of their time, in the states that count."""
        ...


def charge_of(run: int, book: Book, fresh: Iterable[Entry]) -> Charge | None:
    """What budgets are charged for; None if it is nothing.

    Args:
        run: key of the run that is charged.
        fresh: the book's entries, but for those that were there already.
    """
    spent = [entry for entry in fresh if entry.state is EntryState.SPENT]
    releases = book.held and book.closes is not None
    if not spent and not releases:
        return None
    id = book.closes if book.closes is not None else book.loses
    used = [entry.used for entry in spent]
    step = spent[0].name if spent else ""
    return Charge(run, step, used, id if book.held else None, keeps=book.closes is None)


def moment_of(book: Book) -> float:
    """When what is booked was spent, wall-clock seconds."""
    return max((entry.at for entry in book.entries), default=0.0)


def columns(entry: Entry, workflow: str, key: str | None) -> dict[str, Any]:
    """What a new entry's columns hold, but for the run's key.

    Args:
        workflow, key: of the run that is charged.
    """
    used = entry.used
    return {
        "id": entry.id,
        "state": entry.state.value,
        "step": entry.step,
        "name": entry.name,
        "attempt": entry.attempt,
        "at": float(entry.at),
        "epoch": entry.epoch,
        "errand": entry.errand,
        "workflow": workflow,
        "key": key if used.key is None else used.key,
        "model": used.model,
        "provider": used.provider,
        "response": used.response,
        "input": used.input,
        "output": used.output,
        "cached": used.cached,
        "written": used.written,
        "reasoning": used.reasoning,
        "cost": used.cost,
        "price": used.price,
    }


def entry_of(row: Sequence[Any]) -> Entry:
    """An entry from its columns: those of Entry but for `used`, then those of Used."""
    id, state, step, name, attempt, at, epoch, errand, *used = row
    return Entry(id, EntryState(state), step, name, attempt, at, Used(*used), epoch, errand)


#: A row of what the stores group by name and state: both of these, whether the name isn't known any more, `FIGURES`.
Group = tuple[Any, ...]

#: What stores sum up in a group: how many; tokens; cost, and how many have none; the same times how often each was
#: spared.
FIGURES = (
    "calls", "input", "output", "cached", "written", "reasoning", "cost", "unpriced",
    "spared", "spared_input", "spared_output", "spared_cost", "spared_unpriced",
)  # fmt: skip


def lines_of(groups: Iterable[Group], query: Query) -> list[Line]:
    """The lines of a report."""
    found: dict[tuple[bool, str | None], Sums] = {} if query.by is not None else {(False, None): Sums()}
    for name, state, removed, *figures in groups:
        _add(found.setdefault((bool(removed), name), Sums()), state, [int(figure or 0) for figure in figures])
    places = sorted(found, key=lambda place: (place[0], place[1] is None, place[1] or ""))
    return [Line(name, found[removed, name], removed) for removed, name in places]


def days_of(query: Query) -> tuple[int, int]:
    """The days that begin in a query's time: the first, and the first that doesn't any more."""
    first = 0 if query.since is None else math.ceil(query.since / DAY)
    return first, 1 << 40 if query.until is None else math.ceil(query.until / DAY)


def total_of(row: Sequence[Any]) -> Total:
    """A total from its columns."""
    namespace, day, workflow, name, model, state, *figures = row
    return Total(namespace, day, workflow, name, model, state, tuple(figures))


def _add(sums: Sums, state: str, figures: Sequence[int]) -> None:
    calls, input, output, cached, written, reasoning, cost, unpriced, *spared = figures
    if state == EntryState.OPEN:
        sums.in_flight += calls
    elif state == EntryState.UNKNOWN:
        sums.lose(cost, count=calls, unpriced=unpriced)
    elif state == EntryState.REUSED:
        sums.spare(input, output, cost, count=calls, unpriced=unpriced)
    else:
        used = Used(
            input=input, output=output, cached=cached, written=written, reasoning=reasoning, cost=cost
        )
        sums.spent(used, calls)
        sums.unpriced += unpriced
    again, *more, unpriced_again = spared
    sums.spare(*more, count=again, unpriced=unpriced_again)


def add_entry(sums: Sums, entry: Entry) -> None:
    """Add one entry to sums."""
    used = entry.used
    tokens = (used.input, used.output, used.cached, used.written, used.reasoning)
    _add(sums, entry.state, (1, *tokens, used.cost or 0, int(used.cost is None), 0, 0, 0, 0, 0))
