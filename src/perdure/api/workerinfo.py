"""The workers of a database, as users see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from perdure.core.errands import step_of
from perdure.runtime.liveness import host_identity, process_gone
from perdure.storage.workers import WorkerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A process that drives runs.

    Attributes:
        host: its machine.
        pid: its process there.
        version: what it calls its code, see `Engine(version=...)`; None if it doesn't.
        state: "alive"; "late" if its heartbeat is overdue; "stopping" while its last steps end; "gone" if its process
            has ended or its lease is over, so that others take its runs over.
        last_heartbeat: when it was last heard of. It gives a sign of life every third of its lease.
        lease_until: it counts as dead then, unless it is heard of before.
        runs: how many runs it had in memory at its last heartbeat.
        steps: how many steps executed there then.
        workflows: the workflows it has code for.
        offers: the steps that it executes for runs which have sent them to its queues.
    """

    name: str
    host: str
    pid: int
    version: str | None
    state: Literal["alive", "late", "stopping", "gone"]
    started_at: datetime
    last_heartbeat: datetime
    lease_until: datetime
    runs: int
    steps: int
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    offers: tuple[str, ...] = ()


def worker_info(row: WorkerRow, now: float) -> WorkerInfo:
    """From a store's row to what users see, at a moment (wall-clock seconds)."""
    return WorkerInfo(
        name=row.name,
        host=row.host.partition("|")[0],
        pid=row.pid,
        version=row.version or None,
        state=_state(row, now),
        started_at=datetime.fromtimestamp(row.started_at, UTC),
        last_heartbeat=datetime.fromtimestamp(row.heard_at, UTC),
        lease_until=datetime.fromtimestamp(row.lease_until, UTC),
        runs=row.runs,
        steps=row.steps,
        queues=tuple(row.queues),
        workflows=tuple(name for name in row.workflows if step_of(name) is None),
        offers=tuple(step for name in row.workflows if (step := step_of(name)) is not None),
    )


def _state(row: WorkerRow, now: float) -> Literal["alive", "late", "stopping", "gone"]:
    if row.lease_until < now or process_gone(row, host_identity()):
        return "gone"
    if row.stopping:
        return "stopping"
    # a heartbeat is due after a third of the lease; with a second one missing something is wrong
    late = now - row.heard_at > (row.lease_until - row.heard_at) * 2 / 3
    return "late" if late else "alive"
