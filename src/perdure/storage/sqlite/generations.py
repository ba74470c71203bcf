"""How a run goes on in its next generation, inside a transaction of the writer."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.generations import succeeding
from perdure.storage.records import Mail, Successor
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.lifecycle import create_run, inherit


def succeed(db: Database, run: int, successor: Successor, inbox: Sequence[Mail]) -> tuple[int, int]:
    """(key, epoch) of the next generation of a run that has just ended.

    Args:
        inbox: what was in its inbox.
    """
    (ties,) = db.rows("ties", {"run": run})
    new = succeeding(successor.run, run, ties)
    made = create_run(db, new, ties[2])
    assert made is not None, "a run that has just ended isn't followed by any"
    inherit(db, run, made[0], inbox, new.created_at)
    return made
