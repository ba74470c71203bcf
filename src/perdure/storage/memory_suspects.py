"""Runs in a memory database of which one may be killing its workers."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.suspicion import ONE_TRIAL, SUSPECTED, TOGETHER_MAX, tried_together, window
from perdure.storage.lines import Plan
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.memory_versions import may_drive


def waiting_since(db: MemoryDatabase, now: float) -> float | None:
    """Since when the last of them has been due."""
    moments = [run.wake_at for run in db.runs.values() if _waits(run) and run.wake_at is not None]
    return max((at for at in moments if at <= now), default=None)


def being_tried(db: MemoryDatabase, now: float) -> bool:
    """Whether a worker keeps some to itself just now."""
    return any(
        run.owner is not None
        and run.recoveries >= ONE_TRIAL
        and run.updated_at > now - window(run.recoveries)
        for run in db.runs.values()
    )


def suspects(
    db: MemoryDatabase, worker: int, workflows: Sequence[str], plan: Plan, upto: float, limit: int
) -> list[int]:
    """Those that a worker tries now: of the longest due ones who lost the most drivers."""
    rooms: dict[str, int] = {}
    for state in plan.narrow:
        owned = sum(run.owner == worker and run.queue == state.name for run in db.runs.values())
        rooms[state.name] = plan.owns(state, owned)
    queues = {*plan.plain, *plan.back, *rooms}
    found = [
        run
        for run in db.runs.values()
        if _waits(run)
        and (run.wake_at or 0.0) <= upto
        and run.queue in queues
        and run.workflow in workflows
        and may_drive(db.workers[worker], run)
    ]
    found.sort(key=_suspicion)
    most = [(run.run, run.recoveries, run.queue) for run in found[:TOGETHER_MAX]]
    return tried_together(most, rooms, limit)


def _waits(run: Run) -> bool:
    unowned = run.owner is None and run.wake_at is not None and run.lane is None
    return unowned and run.recoveries >= SUSPECTED


def _suspicion(run: Run) -> tuple[int, float, int]:
    """Who lost the most first, then who was claimed last; those claimed together take turns."""
    return -run.recoveries, -run.updated_at, (run.run % 1000003 * 618034 + run.epoch * 414214) % 1000003
