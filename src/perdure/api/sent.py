"""What can be seen from outside of steps that were sent to a queue: who executes them, and their heartbeats."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.core.status import Status
from perdure.core.timeline import Wait, with_heartbeat
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow


async def with_errands(store: Store, waiting: Sequence[Wait]) -> list[Wait]:
    """The same waits; those for steps that were sent tell what has become of that."""
    ids = [wait.run for wait in waiting if wait.run]
    if not ids:
        return list(waiting)
    rows = {row.id: row for row in await store.get(ids) if row is not None}
    workers = {worker.id: worker.name for worker in await store.workers()}
    histories = await store.load([row.run for row in rows.values()])
    told = {
        (history.run, item.step): (item.data, item.at) for history in histories for item in history.details
    }
    found: list[Wait] = []
    for wait in waiting:
        row = rows.get(wait.run)
        if row is not None:
            detail = f"{wait.detail}, {_standing(row, workers)}"
            wait = msgspec.structs.replace(wait, detail=detail)
            wait = with_heartbeat(wait, told.get((row.run, wait.id)))
        found.append(wait)
    return found


def _standing(row: RunRow, workers: dict[int, str]) -> str:
    if row.owner is not None:
        return f"executes on worker {workers.get(row.owner, '(unknown)')}"
    if Status(row.status).final:
        return "has ended there"
    if row.status == Status.BLOCKED:
        return f"is blocked there: {row.reason}"
    return "waits there"
