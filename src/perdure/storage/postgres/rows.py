"""Between PostgreSQL's rows and the records of the storage seam."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

from perdure.storage.postgres.database import Database, Row
from perdure.storage.records import NewRun, RunRow
from perdure.storage.workers import WorkerRow

#: Low bits of a key that are random.
RANDOM_BITS = 20
_newest = 0


def new_key() -> int:
    """A key for a run or worker: milliseconds since the epoch and random bits, so that keys are time-ordered and
    no two clients make the same one. Keys of one process grow strictly.
    """
    global _newest
    key = (int(time.time() * 1000) << RANDOM_BITS) | random.getrandbits(RANDOM_BITS)
    _newest = key if key > _newest else _newest + 1 + random.getrandbits(8)
    return _newest


def run_rows(rows: Iterable[Row]) -> list[RunRow]:
    return [RunRow(*row) for row in rows]


async def rows_by_key(db: Database, keys: Sequence[int]) -> list[RunRow]:
    """In the order of their keys as given; those that aren't there are left out."""
    found = {row.run: row for row in run_rows(await db.rows("rows_by_key", runs=list(keys)))}
    return [found[key] for key in keys if key in found]


def worker_row(row: Row) -> WorkerRow:
    return WorkerRow(*row)


def new_runs(runs: Sequence[tuple[int, NewRun, int | None]], chains: Sequence[int]) -> dict[str, Any]:
    """Bindings of the `create_many` query, from each run's key, itself and its parent, and from its chain."""
    return {
        "runs": [key for key, _, _ in runs],
        "ids": [run.id for _, run, _ in runs],
        "workflows": [run.workflow for _, run, _ in runs],
        "queues": [run.queue for _, run, _ in runs],
        "fingerprints": [run.fingerprint for _, run, _ in runs],
        "created": [float(run.created_at) for _, run, _ in runs],
        "wakes": [float(run.wake_at) for _, run, _ in runs],
        "owners": [run.owner for _, run, _ in runs],
        "parents": [parent for _, _, parent in runs],
        "ops": [run.parent_op for _, run, _ in runs],
        "policies": [run.on_parent_close.value for _, run, _ in runs],
        "pinned": [run.pinned for _, run, _ in runs],
        "keys": [run.key for _, run, _ in runs],
        "priorities": [run.priority for _, run, _ in runs],
        "dedups": [run.dedup for _, run, _ in runs],
        "slots": [run.slot for _, run, _ in runs],
        "generations": [run.generation for _, run, _ in runs],
        "chains": list(chains),
    }
