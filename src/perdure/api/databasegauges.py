"""Numbers of the whole database, for `Metrics`: read now and then, in work that doesn't grow with histories.

Runs are counted as the overview counts them; see storage/survey.py for what that costs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from weakref import WeakKeyDictionary

from perdure.api.connection import Connection
from perdure.api.limits import Limits
from perdure.api.overview import counted, fullest_accounts
from perdure.api.queues import Queues
from perdure.api.spending import report
from perdure.api.watch import LIVE
from perdure.api.workerinfo import worker_info
from perdure.core.errands import step_of
from perdure.runtime.metrics.registry import Labels
from perdure.storage.disk import DiskUse

#: What a database takes is asked for so often, since large ones are sampled for that.
_ROOM_EVERY: Final = 60.0
_room_of: WeakKeyDictionary[Connection, tuple[float, DiskUse]] = WeakKeyDictionary()

_STATES: Final = ("alive", "late", "stopping", "gone")


async def gauges(connection: Connection) -> AsyncIterator[tuple[str, Labels, float]]:
    """Names, labels and values."""
    now = connection.clock()
    async for each in _runs(connection):
        yield each
    async for each in _queues(connection, now):
        yield each
    async for each in _workers(connection, now):
        yield each
    async for each in _money(connection, now):
        yield each
    async for each in _room(connection):
        yield each


async def _runs(connection: Connection) -> AsyncIterator[tuple[str, Labels, float]]:
    for tally in await counted(connection):
        if tally.status in LIVE and step_of(tally.workflow) is None:
            yield "perdure_db_runs", (tally.workflow, tally.status), tally.count
    for tally in await connection.store.survey.blocked():
        yield "perdure_db_runs_blocked", (tally.workflow, tally.status or "unknown"), tally.count


async def _queues(connection: Connection, now: float) -> AsyncIterator[tuple[str, Labels, float]]:
    for queue in await Queues(connection).list():
        name = (queue.name,)
        age = 0.0 if queue.oldest is None else max(0.0, now - queue.oldest.timestamp())
        yield "perdure_db_queue_depth", name, queue.queued
        yield "perdure_db_queue_delayed", name, queue.delayed
        yield "perdure_db_queue_running", name, queue.running
        yield "perdure_db_queue_oldest_age_seconds", name, age
        yield "perdure_db_queue_workers", name, len(queue.workers)
        yield "perdure_db_queue_held", name, float(queue.paused or queue.draining)


async def _workers(connection: Connection, now: float) -> AsyncIterator[tuple[str, Labels, float]]:
    workers = [worker_info(row, now) for row in await connection.store.workers()]
    states = Counter(worker.state for worker in workers)
    for state in _STATES:
        yield "perdure_db_workers", (state,), states[state]
    silent = max((now - worker.last_heartbeat.timestamp() for worker in workers), default=0.0)
    yield "perdure_db_worker_heartbeat_age_seconds", (), max(0.0, silent)


async def _money(connection: Connection, now: float) -> AsyncIterator[tuple[str, Labels, float]]:
    for limit in await Limits(connection).list():
        waiting = max((unit.waiting for unit in limit.units.values()), default=0)
        yield "perdure_db_limit_waiting", (limit.name,), waiting
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for budget in await fullest_accounts(connection, midnight.date().isoformat()):
        name = (budget.name,)
        yield "perdure_db_budget_spent_usd", name, float(budget.spent)
        if budget.usd:
            yield "perdure_db_budget_used_ratio", name, float(budget.spent / budget.usd)
        yield "perdure_db_budget_waiting", name, budget.waiting
    (today,) = await report(connection, None, since=midnight)
    yield "perdure_db_spent_today_usd", (), float(today.usage.cost)


async def _room(connection: Connection) -> AsyncIterator[tuple[str, Labels, float]]:
    at, use = _room_of.get(connection, (0.0, None))
    if use is None or time.monotonic() > at + _ROOM_EVERY:
        use = await connection.store.disk.use()
        _room_of[connection] = time.monotonic(), use
    yield "perdure_db_size_bytes", (), use.bytes
    yield "perdure_db_free_bytes", (), use.free
    yield "perdure_db_log_bytes", (), use.log
