"""Versions of code in a memory database: which workers may drive which runs."""

from __future__ import annotations

from typing import Any

from perdure.storage.attributes import Misfit
from perdure.storage.records import Append
from perdure.storage.workers import WorkerRow

_REMEMBERED = 20


def misfit(db: Any, append: Append, effect: Misfit) -> None:
    """The effect of an append that blocks a run because this code can't drive it."""
    run = db.runs[append.run]
    others = [code for code in run.misfits if code != effect.code]
    run.misfits = [*others, effect.code][-_REMEMBERED:]


def may_drive(worker: WorkerRow, run: Any) -> bool:
    """Whether this worker's code may drive a run, as far as versions go."""
    return worker.code not in run.misfits and (
        not run.pinned or run.version is None or run.version == worker.version
    )


def serves(worker: WorkerRow, run: Any) -> bool:
    """Whether this worker has a run's workflow, and its queue."""
    return run.workflow in worker.workflows and run.queue in worker.queues
