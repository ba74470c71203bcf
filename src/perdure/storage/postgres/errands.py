"""Errands in PostgreSQL, inside a transaction: many of one run's are stopped by a handful of statements."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.status import Status
from perdure.storage.errands import StopErrand
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.events import append_by_itself
from perdure.storage.postgres.lifecycle import tell_parent
from perdure.storage.records import Append, MailKind


async def stop_errands(db: Database, append: Append, stops: Sequence[StopErrand]) -> None:
    """The effects of an append that needs these no more. They are younger than the run, and so are locked after it."""
    now = float(append.now)
    rows = await db.rows("lock_errands", ids=[stop.errand for stop in stops])
    known = {id: (run, unbegun) for id, run, unbegun in rows}
    found = [(*known[stop.errand], stop) for stop in stops if stop.errand in known]
    ended = {run: stop for run, unbegun, stop in found if unbegun}
    if ended:
        over = await db.rows("end_errands", runs=list(ended), now=now)
        places = [(run, seq, chain) for run, seq, chain, *_ in over]
        await append_by_itself(db, places, [ended[run].event for run, *_ in over])
        await db.run("drop_inboxes", runs=list(ended))
        for run, _, _, parent, parent_op in over:
            if ended[run].tell:
                await tell_parent(db, parent, parent_op, Status.CANCELLED.value, append.now)
    asked = {run: stop.request for run, unbegun, stop in found if not unbegun and stop.request is not None}
    if asked:
        numbers = await db.rows("ask_errands", runs=list(asked), now=now)
        await db.run(
            "put_mails",
            runs=[run for run, _ in numbers],
            numbers=[number for _, number in numbers],
            kind=MailKind.CONTROL.value,
            data=[asked[run] for run, _ in numbers],
        )
