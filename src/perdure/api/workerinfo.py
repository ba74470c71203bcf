"""The workers of a database, as users see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from perdure.storage.workers import WorkerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A process that drives runs.

    Attributes:
        pid: its process, on its host.
        version: what it calls its code, see `Engine(version=...)`; None if it doesn't.
        lease_until: it counts as dead then, unless it is heard of before.
        workflows: the workflows it has code for.
    """

    name: str
    pid: int
    version: str | None
    started_at: datetime
    lease_until: datetime
    queues: tuple[str, ...]
    workflows: tuple[str, ...]


def worker_info(row: WorkerRow) -> WorkerInfo:
    """From a store's row to what users see."""
    return WorkerInfo(
        name=row.name,
        pid=row.pid,
        version=row.version or None,
        started_at=datetime.fromtimestamp(row.started_at, UTC),
        lease_until=datetime.fromtimestamp(row.lease_until, UTC),
        queues=tuple(row.queues),
        workflows=tuple(row.workflows),
    )
