"""Queues from outside (`engine.queues`): what they hold, pausing and draining them, other limits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from perdure.api.connection import Connection
from perdure.api.runinfo import moment_of
from perdure.core.queues import QueueSettings, micros
from perdure.core.rates import MICRO, Rate, room
from perdure.errors import ConfigurationError, UsageError
from perdure.runtime.queues import Queue, check_settings, checked_queue, queue_name
from perdure.storage.queues import QueueCounts, QueueRow, combined
from perdure.storage.workers import WorkerRow

_LOOK_EVERY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue at one moment, from `engine.queues`.

    Attributes:
        queued: runs that wait for their beginning, or, in a queue without limits, for a worker.
        delayed: runs whose time hasn't come.
        running: runs that hold a slot, waiting ones included; without limits those that workers have in memory.
        oldest: since when the longest waiting one could have begun.
        concurrency, per_worker, rate, per_key, priority, fairness: its limits, see `Queue`.
        overridden: names of the limits that an operator has set.
        next_at: when its rate lets the next run begin, None if one may begin now.
        paused: none of its runs goes on but those that workers have.
        draining: none of its runs begins.
        workers: names of the workers that serve it.
    """

    name: str
    queued: int
    delayed: int
    running: int
    oldest: datetime | None
    concurrency: int | None
    per_worker: int | None
    rate: Rate | None
    per_key: int | None
    priority: bool
    fairness: str | None
    overridden: Sequence[str]
    next_at: datetime | None
    paused: bool
    draining: bool
    workers: Sequence[str]


class Queues:
    """The queues of a database, as `engine.queues`. What is done here holds for all workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[QueueInfo]:
        """All queues that are defined, served, or hold anything, by name."""
        store, now = self._connection.store, self._connection.clock()
        rows = {row.name: row for row in await store.queues.all()}
        counts = {count.name: count for count in await store.queues.counts(now=now)}
        workers = await store.workers()
        served = {name for worker in workers for name in worker.queues}
        return [
            _info(name, rows.get(name), counts.get(name, QueueCounts(name)), workers, now)
            for name in sorted({*rows, *counts, *served})
        ]

    async def get(self, queue: str | Queue) -> QueueInfo | None:
        """One queue; None if nothing is known of it."""
        name = queue_name(queue)
        return next((info for info in await self.list() if info.name == name), None)

    async def pause(self, queue: str | Queue) -> None:
        """Hold a queue: none of its runs begins or goes on but those that workers have in memory."""
        await self._change(queue, paused=True)

    async def resume(self, queue: str | Queue) -> None:
        """Let a queue go on that was paused, or drained."""
        await self._change(queue, paused=False, draining=False)

    async def drain(self, queue: str | Queue, *, wait: bool = False) -> None:
        """Let none of a queue's runs begin; those that have begun go on to their ends. What is started waits.

        Args:
            wait: return when none is left that has begun. Runs that are paused or blocked count, too.
        """
        row = await self._change(queue, draining=True)
        while wait:
            if not await self._connection.store.queues.held(row.name):
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def set(self, queue: str | Queue, **limits: Any) -> QueueInfo:
        """Give a queue other limits than its code does. They hold, whatever is deployed, until `reset`.

        Args:
            limits: `concurrency`, `per_worker`, `rate`, `per_key`, `priority`, `fairness` as in `Queue`; None is no
                limit. Those that aren't named stay as they are.

        Raises:
            UsageError: there is no such limit.
            ConfigurationError: it is out of range.

        Example:
            >>> await engine.queues.set("ingest", concurrency=20)  # doctest: +SKIP
        """
        name = checked_queue(queue_name(queue))
        known = QueueSettings.__struct_fields__
        unknown = sorted(set(limits) - set(known))
        if unknown:
            msg = f"queue {name!r} has no limit {unknown[0]!r}: there are {', '.join(known)}"
            raise UsageError(msg)
        rows = {row.name: row for row in await self._connection.store.queues.all()}
        before: Mapping[str, Any] = rows[name].overrides if name in rows else {}
        overrides: Mapping[str, Any] = msgspec.to_builtins({**before, **limits})
        try:
            settings = combined(None, overrides)
        except msgspec.ValidationError as error:
            msg = f"queue {name!r}: {error}"
            raise ConfigurationError(msg) from None
        check_settings(name, settings)
        return await self._looked_at(await self._change(name, overrides=overrides))

    async def reset(self, queue: str | Queue) -> QueueInfo:
        """Let the limits hold again that code gives to a queue."""
        return await self._looked_at(await self._change(queue, overrides={}))

    async def _looked_at(self, row: QueueRow) -> QueueInfo:
        info = await self.get(row.name)
        assert info is not None, "a queue that was changed is known"
        return info

    async def _change(self, queue: str | Queue, **said: Any) -> QueueRow:
        name, connection = checked_queue(queue_name(queue)), self._connection
        row = await connection.store.queues.change(name, **said, now=connection.clock())
        connection.nudge()
        return row


def _info(
    name: str, row: QueueRow | None, counts: QueueCounts, workers: Sequence[WorkerRow], now: float
) -> QueueInfo:
    settings = QueueSettings() if row is None else row.settings
    next_at = None
    if row is not None and settings.rate is not None:
        free, at = room(settings.rate.pace, row.arrival, micros(now))
        next_at = None if free else moment_of(at / MICRO)
    return QueueInfo(
        name=name,
        queued=counts.queued,
        delayed=counts.later,
        running=counts.driven if counts.held is None else counts.held,
        oldest=None if counts.oldest is None else moment_of(counts.oldest),
        concurrency=settings.concurrency,
        per_worker=settings.per_worker,
        rate=settings.rate,
        per_key=settings.per_key,
        priority=settings.priority,
        fairness=settings.fairness,
        overridden=[] if row is None else sorted(row.overrides),
        next_at=next_at,
        paused=row is not None and row.paused,
        draining=row is not None and row.draining,
        workers=[worker.name for worker in workers if name in worker.queues],
    )
