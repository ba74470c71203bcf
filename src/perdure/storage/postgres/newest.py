"""Which run an id means, while runs follow each other under it at the same time.

Whoever ends a run locks its row first. So who holds that row, and sees that no run follows, has the newest one.
"""

from __future__ import annotations

from perdure.storage.postgres.database import Database


async def lock_newest(db: Database, id: str) -> int | None:
    """The key of the newest run of an id, which no other run can follow before the transaction's end."""
    while found := await db.rows("lock_newest", id=id):
        ((run, follower),) = found
        if follower is None:
            assert isinstance(run, int)
            return run
    return None
