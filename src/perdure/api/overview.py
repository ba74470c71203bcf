"""How everything is, at one look: runs, what ends, how long it takes, queues, workers, limits, money.

What it costs doesn't grow with histories: runs are counted by a narrow index, ends by another, 100,000 at most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

from perdure.api.budgets import Budgets
from perdure.api.connection import Connection
from perdure.api.limits import Limits
from perdure.api.queues import Queues
from perdure.api.spending import report
from perdure.api.stuck import Usual, usual_lengths
from perdure.api.workerinfo import worker_info
from perdure.core.errands import step_of
from perdure.errors import UsageError
from perdure.storage.survey import Tally

#: What an overview looks back at.
Window: TypeAlias = Literal["hour", "day", "week"]

#: Seconds, and in how many parts it is told.
WINDOWS: Mapping[str, tuple[float, int]] = {"hour": (60.0, 60), "day": (1800.0, 48), "week": (14_400.0, 42)}

#: Ends that are counted, at most, and those that tell how long runs take.
ENDS = 100_000
SAMPLE = 2_000

#: With so many runs a count of them is used again for twenty times as long as counting took, so that a page which
#: refreshes itself costs a twentieth of a processor at most.
MANY = 200_000
_AGAIN = 20.0

#: By connection: when the runs were counted, in how many seconds, and what came of it.
_counted: WeakKeyDictionary[Connection, tuple[float, float, Sequence[Tally]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Ends:
    """How many runs ended in a part of the time. `others` were cancelled or terminated, or have gone on as new ones."""

    at: datetime
    completed: int
    failed: int
    others: int


@dataclass(frozen=True, slots=True)
class WorkflowLoad:
    """A workflow's runs by status, and how long the newest took, in seconds from the first driver to the end."""

    name: str
    runs: Mapping[str, int]
    p50: float | None
    p95: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What waits in a queue, and since when the oldest could have begun."""

    name: str
    queued: int
    running: int
    oldest: datetime | None
    paused: bool
    workers: int


@dataclass(frozen=True, slots=True)
class LimitLoad:
    """What waits for a rate limit, and when it lets the next one begin."""

    name: str
    waiting: int
    blocked_until: datetime | None
    next_at: datetime


@dataclass(frozen=True, slots=True)
class BudgetLoad:
    """How a budget's fullest account stands today, in US dollars."""

    name: str
    owner: str
    usd: Decimal | None
    spent: Decimal
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How everything is, from `engine.overview()`.

    Attributes:
        runs: how many are at which status.
        workflows: those with most runs first.
        window: what `ends` looks back at, in parts of `width` seconds, the oldest first.
        counted_since: what ended before isn't in `ends`, since too much did; None if all is.
        workers: how many are in which state, see `WorkerInfo`.
        spent, calls: today (in UTC), on language models, in US dollars.
        unpriced_calls: those of them whose price nobody knows.
    """

    at: datetime
    runs: Mapping[str, int]
    workflows: Sequence[WorkflowLoad]
    window: str
    width: float
    ends: Sequence[Ends]
    counted_since: datetime | None
    queues: Sequence[QueueLoad]
    workers: Mapping[str, int]
    limits: Sequence[LimitLoad]
    spent: Decimal
    calls: int
    unpriced_calls: int
    budgets: Sequence[BudgetLoad]


async def overview(connection: Connection, window: str) -> Overview:
    """Gather it."""
    if window not in WINDOWS:
        msg = f"window={window!r}: an overview looks back at one of {', '.join(WINDOWS)}"
        raise UsageError(msg)
    store, now = connection.store, connection.clock()
    width, parts = WINDOWS[window]
    since = (now // width - parts + 1) * width
    ended = await store.survey.finished(since, width=width, limit=ENDS)
    counts: dict[int, Counter[str]] = {}
    for each in ended:
        counts.setdefault(each.part, Counter())[each.status] += each.count
    capped = sum(each.count for each in ended) >= ENDS
    loads, runs = loads_of(await counted(connection), usual_lengths(await store.survey.took(limit=SAMPLE)))
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    (spent,) = await report(connection, None, since=midnight)
    return Overview(
        at=datetime.fromtimestamp(now, UTC),
        runs=runs,
        workflows=loads,
        window=window,
        width=width,
        ends=[_ends(since + part * width, counts.get(part, Counter())) for part in range(parts)],
        counted_since=datetime.fromtimestamp(min(each.first for each in ended), UTC) if capped else None,
        queues=[
            QueueLoad(each.name, each.queued, each.running, each.oldest, each.paused, len(each.workers))
            for each in await Queues(connection).list()
        ],
        workers=dict(Counter(worker_info(row, now).state for row in await store.workers())),
        limits=[
            LimitLoad(
                each.name,
                max((unit.waiting for unit in each.units.values()), default=0),
                each.blocked_until,
                each.next_at,
            )
            for each in await Limits(connection).list()
        ],
        spent=spent.usage.cost,
        calls=spent.usage.calls,
        unpriced_calls=spent.usage.unpriced_calls,
        budgets=await fullest_accounts(connection, midnight.date().isoformat()),
    )


async def counted(connection: Connection) -> Sequence[Tally]:
    """How many runs are at what; of very many, as of some seconds ago."""
    begun = time.monotonic()
    if (kept := _counted.get(connection)) is not None and begun < kept[0] + kept[1] * _AGAIN:
        return kept[2]
    tallies = await connection.store.survey.tallies()
    if sum(tally.count for tally in tallies) >= MANY:
        now = time.monotonic()
        _counted[connection] = now, now - begun, tallies
    return tallies


def _ends(at: float, counts: Mapping[str, int]) -> Ends:
    completed, failed = counts.get("completed", 0), counts.get("failed", 0)
    others = sum(counts.values()) - completed - failed
    return Ends(datetime.fromtimestamp(at, UTC), completed, failed, others)


def loads_of(
    tallies: Sequence[Tally], usual: Mapping[str, Usual]
) -> tuple[list[WorkflowLoad], dict[str, int]]:
    """By workflow, those with most runs first; and how many runs are at which status."""
    by_workflow: dict[str, dict[str, int]] = {}
    runs: Counter[str] = Counter()
    for tally in tallies:
        if step_of(tally.workflow) is None:
            by_workflow.setdefault(tally.workflow, {})[tally.status] = tally.count
            runs[tally.status] += tally.count
    loads = [_load(name, counts, usual.get(name)) for name, counts in by_workflow.items()]
    return sorted(loads, key=lambda load: (-sum(load.runs.values()), load.name)), dict(runs)


def _load(name: str, counts: Mapping[str, int], usual: Usual | None) -> WorkflowLoad:
    if usual is None:
        return WorkflowLoad(name, counts, None, None, 0)
    return WorkflowLoad(name, counts, usual.p50, usual.p95, usual.samples)


async def fullest_accounts(connection: Connection, today: str) -> list[BudgetLoad]:
    """How each budget's fullest account stands on a day, such as "2026-05-30"."""
    found: list[BudgetLoad] = []
    for budget in await Budgets(connection).list():
        accounts = [each for each in budget.accounts if each.day in ("", today)]
        if not accounts:
            continue
        fullest = max(accounts, key=lambda each: each.spent / each.usd if each.usd else Decimal(0))
        waiting = sum(each.waiting for each in accounts)
        found.append(BudgetLoad(budget.name, fullest.owner, fullest.usd, fullest.spent, waiting))
    return found
