"""Errands in PostgreSQL, inside a transaction."""

from __future__ import annotations

from perdure.core.status import Status
from perdure.storage.errands import StopErrand
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import deliver, tell_parent
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.records import Append


async def stop_errand(db: Database, append: Append, effect: StopErrand) -> None:
    """The effect of an append that needs an errand no more. It is younger than the run, and so is locked after it."""
    now = append.now
    run = await lock_newest(db, effect.errand)
    if run is None:
        return
    ended = await db.rows("end_errand", run=run, now=float(now))
    for seq, parent, parent_op in ended:
        await db.run("insert_events", runs=[run], seqs=[seq], data=[effect.event])
        await db.run("drop_inboxes", runs=[run])
        if effect.tell:
            await tell_parent(db, parent, parent_op, Status.CANCELLED.value, now)
    if not ended and effect.request is not None and await deliver(db, run, effect.request, now):
        await db.run("detach_errand", run=run)
