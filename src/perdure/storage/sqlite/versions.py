"""Versions of code in the SQLite store: which workers may drive which runs, inside a transaction of the writer."""

from __future__ import annotations

from perdure.storage.attributes import Misfit
from perdure.storage.reasons import no_worker_of_version
from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database


def misfit(db: Database, append: Append, effect: Misfit) -> None:
    """The effect of an append that blocks a run because this code can't drive it."""
    db.run("note_misfit", {"run": append.run, "code": effect.code})


def strand_pinned(db: Database, now: float, limit: int) -> int:
    """Block due runs of a version that no registered worker has; how many."""
    stranded = db.rows("stranded_pinned", {"now": now, "limit": limit})
    for run, version in stranded:
        db.run("block_stranded", {"run": run, "now": now, "reason": no_worker_of_version(version)})
    return len(stranded)
