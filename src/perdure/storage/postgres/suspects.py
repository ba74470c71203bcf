"""Claiming runs of which one may be killing its workers, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.suspicion import TOGETHER_MAX, tried_together
from perdure.storage.lines import Plan, QueueState
from perdure.storage.postgres.database import Database


async def claim_suspected(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    states: Sequence[QueueState],
    upto: float,
    now: float,
    limit: int,
) -> list[int]:
    """Give a worker suspected runs that have been due since `upto` or longer, as many as may be tried together."""
    plan = Plan(queues, states, (), limit, now)
    rooms: dict[str, int] = {}
    for state in plan.narrow:
        own: int = await db.value("slots_here", worker=worker, queue=state.name)
        rooms[state.name] = plan.owns(state, own)
    limited = {*plan.back, *rooms}
    found = await db.rows(
        "suspected",
        worker=worker,
        workflows=list(workflows),
        queues=[*plan.plain, *limited],
        upto=upto,
        limit=TOGETHER_MAX,
    )
    runs = tried_together(found, rooms, limit)
    of_limited = {run for run, _, queue in found if queue in limited}
    for query, group in (("claim", set(runs) - of_limited), ("admit", of_limited.intersection(runs))):
        if group:
            await db.run(query, worker=worker, now=now, runs=sorted(group))
    return runs
