"""Errands in a SQLite store, inside a transaction of the writer."""

from __future__ import annotations

from perdure.core.status import Status
from perdure.storage.errands import StopErrand
from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.events import append_by_itself
from perdure.storage.sqlite.lifecycle import deliver, tell_parent


def stop_errand(db: Database, append: Append, effect: StopErrand) -> None:
    """The effect of an append that needs an errand no more."""
    now = append.now
    for run, *_ in db.rows("key_of", {"id": effect.errand}):
        ended = db.rows("end_errand", {"run": run, "now": now})
        for seq, chain, parent, parent_op in ended:
            append_by_itself(db, run, seq, chain, effect.event)
            db.run("drop_inbox", {"run": run})
            if effect.tell:
                tell_parent(db, parent, parent_op, Status.CANCELLED.value, now)
        if not ended and effect.request is not None and deliver(db, run, effect.request, now):
            db.run("detach_errand", {"run": run})
