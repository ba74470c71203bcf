"""What goes on right now, look by look: workers, queues, workflows, the steps that take long, what is stuck, money.

A watch reads, and nothing else. What it costs doesn't grow with the database: counts come from what the overview
counts, rates from the runs that ended within the last minute (100,000 at most), steps from the ends of some histories.
What takes reading whole histories, the causes of what is stuck, is asked for less often.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from perdure.api.connection import Connection
from perdure.api.overview import BudgetLoad, counted, fullest_accounts, loads_of
from perdure.api.queues import QueueInfo, Queues
from perdure.api.spending import report
from perdure.api.stuck import StuckPage, stuck, usual_lengths
from perdure.api.workerinfo import WorkerInfo, worker_info
from perdure.codec.events import decode_event
from perdure.core.errands import step_of
from perdure.core.stuck import Group
from perdure.core.timeline import waits
from perdure.storage.survey import Ended

WINDOW = 60.0  #: seconds that rates look back
ENDS = 100_000  #: runs that rates count, at most

_SAMPLE = 2_000  # ended runs that tell how long a workflow takes
_DRIVEN = 500  # runs in memory of which it is asked what they do
_TAILS = 40  # of those that execute steps, the quietest
_TAIL = 100  # events, the newest
_STUCK_EVERY = 10.0
_STUCK_SIZE = 50
_SPENT_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class WorkflowPace:
    """A workflow's runs by status, and what became of those that ended lately.

    Attributes:
        ended, failed: how many a second ended, and failed.
        p50, p95: seconds from the first driver to the end, of the newest.
    """

    name: str
    runs: Mapping[str, int]
    ended: float
    failed: float
    p50: float | None
    p95: float | None

    @property
    def live(self) -> int:
        """How many haven't ended."""
        return sum(self.runs.get(status, 0) for status in LIVE)


@dataclass(frozen=True, slots=True)
class QueuePace:
    """A queue, and how many of its runs a second have ended lately."""

    info: QueueInfo
    ended: float


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that executes, as far as that is written down: it is after 100 ms."""

    run: str
    workflow: str
    step: str
    detail: str
    since: datetime
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a watch saw.

    Attributes:
        window: seconds that the rates look back; less than a minute if very much ended.
        runs: how many are at which status, whatever ended included.
        ended, failed: how many runs a second ended, and failed.
        steps: those that execute for longest.
        stuck: runs that don't go on, by cause; some seconds old.
        spent, calls: today (in UTC), on language models, in US dollars.
    """

    at: datetime
    window: float
    runs: Mapping[str, int]
    ended: float
    failed: float
    workers: Sequence[WorkerInfo]
    workflows: Sequence[WorkflowPace]
    queues: Sequence[QueuePace]
    steps: Sequence[RunningStep]
    stuck: Sequence[Group]
    spent: Decimal
    calls: int
    budgets: Sequence[BudgetLoad]


#: Statuses of runs that haven't ended.
LIVE = ("queued", "running", "waiting", "paused", "blocked")


class Watch:
    """Looks at a database again and again, see `Engine.watch`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stuck: tuple[float, StuckPage] | None = None
        self._spent: tuple[float, Decimal, int] | None = None

    async def look(self) -> Look:
        """What goes on now.

        Raises:
            StoreUnavailableError: the database can't be asked at the moment; the next look may succeed.
        """
        connection = self._connection
        store, now = connection.store, connection.clock()
        ends = await store.survey.ends(now - WINDOW, limit=ENDS)
        capped = sum(each.count for each in ends) >= ENDS
        window = max(0.1, now - min(each.first for each in ends)) if capped else WINDOW
        workflows, runs = await self._workflows(ends, window)
        by_queue = _count(ends, lambda each: each.queue)
        runs_ended = [each for each in ends if step_of(each.workflow) is None and each.status != "continued"]
        rows = await store.workers()
        names = {row.id: row.name for row in rows}
        spent, calls = await self._spending(now)
        return Look(
            at=datetime.fromtimestamp(now, UTC),
            window=window,
            runs=runs,
            ended=sum(each.count for each in runs_ended) / window,
            failed=sum(each.count for each in runs_ended if each.status == "failed") / window,
            workers=[worker_info(row, now) for row in rows],
            workflows=workflows,
            queues=[
                QueuePace(queue, by_queue.get(queue.name, 0) / window)
                for queue in await Queues(connection).list()
            ],
            steps=await self._steps(now, names),
            stuck=(await self._not_going_on()).groups,
            spent=spent,
            calls=calls,
            budgets=await fullest_accounts(connection, datetime.fromtimestamp(now, UTC).date().isoformat()),
        )

    async def _workflows(
        self, ends: Sequence[Ended], window: float
    ) -> tuple[list[WorkflowPace], Mapping[str, int]]:
        usual = usual_lengths(await self._connection.store.survey.took(limit=_SAMPLE))
        loads, runs = loads_of(await counted(self._connection), usual)
        ended = _count(ends, lambda each: "" if each.status == "continued" else each.workflow)
        failed = _count(ends, lambda each: each.workflow if each.status == "failed" else "")
        paces = [
            WorkflowPace(
                load.name,
                load.runs,
                ended.get(load.name, 0) / window,
                failed.get(load.name, 0) / window,
                load.p50,
                load.p95,
            )
            for load in loads
        ]
        return paces, runs

    async def _steps(self, now: float, workers: Mapping[int, str]) -> list[RunningStep]:
        """The steps that execute for longest, among the runs that workers have for longest."""
        store = self._connection.store
        keys = await store.survey.driven_since(now, limit=_DRIVEN)
        rows = [row for row in await store.survey.rows(keys) if row.status == "running"]
        found: list[RunningStep] = []
        for row in sorted(rows, key=lambda row: row.updated_at)[:_TAILS]:
            tail = await store.events(row.run, after=max(0, row.seq - _TAIL), limit=_TAIL)
            for wait in waits(decode_event(data) for _, data in tail):
                if wait.kind == "step" and not wait.run:
                    since = datetime.fromtimestamp(wait.since, UTC)
                    worker = workers.get(row.owner or 0, "")
                    found.append(RunningStep(row.id, row.workflow, wait.id, wait.detail, since, worker))
        return sorted(found, key=lambda step: step.since)

    async def _not_going_on(self) -> StuckPage:
        now = time.monotonic()
        if self._stuck is None or now > self._stuck[0] + _STUCK_EVERY:
            page = await stuck(self._connection, size=_STUCK_SIZE, cursor=None)
            self._stuck = time.monotonic(), page
        return self._stuck[1]

    async def _spending(self, now: float) -> tuple[Decimal, int]:
        if self._spent is None or time.monotonic() > self._spent[0] + _SPENT_EVERY:
            midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            (today,) = await report(self._connection, None, since=midnight)
            self._spent = time.monotonic(), today.usage.cost, today.usage.calls
        return self._spent[1:]


def _count(ends: Sequence[Ended], name_of: Callable[[Ended], str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in ends:
        counts[name_of(each)] += each.count
    return counts
