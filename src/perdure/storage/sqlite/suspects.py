"""Claiming runs of which one may be killing its workers, in a SQLite store."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.suspicion import TOGETHER_MAX, tried_together
from perdure.storage.lines import Plan, QueueState
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json


def claim_suspected(
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
        own: int = db.value("slots_here", {"worker": worker, "queue": state.name})
        rooms[state.name] = plan.owns(state, own)
    limited = {*plan.back, *rooms}
    given: dict[str, Value] = {
        "queues": as_json([*plan.plain, *limited]),
        "workflows": as_json(workflows),
        "worker": worker,
        "upto": upto,
        "limit": TOGETHER_MAX,
    }
    found = db.rows("suspected", given)
    runs = tried_together(found, rooms, limit)
    of_limited = {run for run, _, queue in found if queue in limited}
    for query, group in (("claim", set(runs) - of_limited), ("admit", of_limited.intersection(runs))):
        if group:
            db.run(query, {"worker": worker, "now": now, "runs": as_json(sorted(group))})
    return runs
