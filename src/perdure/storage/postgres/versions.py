"""Versions of code in PostgreSQL: which workers may drive which runs."""

from __future__ import annotations

from perdure.storage.attributes import Misfit
from perdure.storage.postgres.database import Database
from perdure.storage.reasons import no_worker_of_version
from perdure.storage.records import Append


async def misfit(db: Database, append: Append, effect: Misfit) -> None:
    """The effect of an append that blocks a run because this code can't drive it."""
    await db.run("note_misfit", run=append.run, code=effect.code)


async def strand_pinned(db: Database, now: float, limit: int) -> int:
    """Block due runs of a version that no registered worker has; how many."""
    blocked = 0
    for run, version in await db.rows("stranded_pinned", now=now, limit=limit):
        blocked += await db.run("block_stranded", run=run, now=now, reason=no_worker_of_version(version))
    return blocked
