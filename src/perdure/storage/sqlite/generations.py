"""How a run goes on in its next generation, inside a transaction of the writer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.storage.records import Mail, ParentPolicy, Successor
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.lifecycle import create_run, inherit


def succeed(db: Database, run: int, successor: Successor, inbox: Sequence[Mail]) -> tuple[int, int]:
    """(key, epoch) of the next generation of a run that has just ended.

    Args:
        inbox: what was in its inbox.
    """
    ((id, fingerprint, parent, parent_op, on_parent_close),) = db.rows("ties", {"run": run})
    new = msgspec.structs.replace(
        successor.run,
        id=id,
        fingerprint=fingerprint,
        follows=run,
        parent_op=parent_op,
        on_parent_close=ParentPolicy(on_parent_close),
    )
    made = create_run(db, new, parent)
    assert made is not None, "a run that has just ended isn't followed by any"
    inherit(db, run, made[0], inbox, new.created_at)
    return made
