"""Finding what is due, however much is queued, beside others who do the same."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.postgres.database import Database

#: How many are looked at for one that is wanted, at first and at last: others may be claiming the first ones.
_WINDOW, _WINDOW_MAX = 4, 256
_WINDOW_MIN = 100


async def lock_due(
    db: Database, worker: int, workflows: Sequence[str], queues: Sequence[str], now: float, limit: int
) -> list[int]:
    """The longest due runs that a worker can drive and nobody else is claiming, locked."""
    window = max(_WINDOW * limit, _WINDOW_MIN)
    while True:
        found = await db.rows(
            "due",
            worker=worker,
            workflows=list(workflows),
            queues=list(queues),
            now=now,
            limit=limit,
            window=window,
        )
        enough = len(found) == limit or window > _WINDOW_MAX * limit
        if enough or (found and found[0][1] < window):
            return [run for run, _ in found]
        window *= 8
