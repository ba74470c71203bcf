"""Claiming from queues with limits in PostgreSQL: the claim's transaction answers what `pick` asks.

A worker that admits somebody holds the queue's row until it has committed, so nobody else counts slots, takes some, or
lets the rate go on meanwhile. Queues in whose lines nobody stands aren't locked.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.queues import free_slots
from perdure.storage.answering import carried_out_by
from perdure.storage.lines import (
    ENTER_MAX,
    LEVELS_MAX,
    Choice,
    Firsts,
    Lanes,
    Levels,
    Plain,
    Plan,
    Question,
    QueueState,
    pick,
)
from perdure.storage.postgres.database import Database, Row
from perdure.storage.postgres.due import lock_due
from perdure.storage.postgres.rows import rows_by_key
from perdure.storage.queues import settings_of
from perdure.storage.records import Claimed


async def claim_limited(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    special: Sequence[str],
    since: float | None,
    now: float,
    limit: int,
) -> Claimed:
    """A claim where some queues aren't like others.

    Args:
        special: names of those.
        since: when the last suspected run became due.
    """
    known = list(workflows)
    states = {state.name: state for state in await queue_states(db, special)}
    limited = [state.name for state in states.values() if state.limited and not state.paused]
    waiting: list[str] = []
    if limited:
        found = await db.rows("lines", queues=limited, workflows=known, now=now)
        waiting = [name for (name,) in found if not states[name].draining]
    full = {
        name: held for name in waiting if (held := await _held_if_full(db, states[name], now)) is not None
    }
    roomy = [name for name in waiting if name not in full]
    if roomy:  # the queues before any run: whoever gives a queue other limits locks in that order, too
        states |= {state.name: state for state in _states(await db.rows("lock_queues", names=roomy))}
    if waiting:
        await db.run("enter_lines", queues=waiting, workflows=known, now=now, limit=ENTER_MAX)
    plan = Plan(queues, list(states.values()), waiting, limit, now)
    runs: list[int] = []

    async def take(query: str, names: Sequence[str], most: int) -> int:
        if not names or most <= 0:
            return 0
        due = await lock_due(db, worker, known, names, now, most)
        await _own(db, query, due, worker, now)
        runs.extend(due)
        return len(due)

    plan.took(await take("claim", plan.plain, plan.due()), due=True)
    plan.took(await take("admit", plan.back, plan.due()), due=True)
    for state in plan.narrow:
        own = await db.value("slots_here", worker=worker, queue=state.name)
        plan.owns_more(state, await take("admit", [state.name], plan.owns(state, own)))
    for state in plan.lines:
        if state.name in full:
            plan.free(state, full[state.name])  # none, but perhaps the rate tells when
            continue
        runs += await _admit(db, plan, state, known, worker, now)
    rows = await rows_by_key(db, runs) if runs else []
    moments: list[float | None] = []
    if ahead := plan.looks_ahead_in():
        moments.append(await db.value("next_at", queues=ahead, workflows=known, worker=worker))
    if plan.limited:
        moments.append(await db.value("next_in_lines", queues=plan.limited, workflows=known))
    return Claimed(rows, plan.next_at(*moments), plan.waits, since)


async def queue_states(db: Database, special: Sequence[str]) -> list[QueueState]:
    """What there is to know of queues that aren't like others."""
    return _states(await db.rows("queue_states", names=list(special)))


def _states(rows: Sequence[Row]) -> list[QueueState]:
    return [
        QueueState(name, limited, paused, draining, settings_of(settings), arrival, turn)
        for name, limited, paused, draining, settings, arrival, turn in rows
    ]


async def _held_if_full(db: Database, state: QueueState, now: float) -> int | None:
    """How many slots are held, if it isn't worth while to lock the queue: whoever frees one after this look says so."""
    counted: dict[str, int] = {}
    if state.settings.concurrency is not None:
        counted = dict(await db.rows("slots", queue=state.name))
    held = sum(counted.values())
    free, _ = free_slots(state.settings, most=1, held=held, owned=0, arrival=state.arrival, now=now)
    return None if free else held


async def _own(db: Database, query: str, runs: Sequence[int], worker: int, now: float) -> None:
    if runs:
        await db.run(query, worker=worker, now=now, runs=list(runs))


async def _admit(
    db: Database, plan: Plan, state: QueueState, workflows: list[str], worker: int, now: float
) -> list[int]:
    """Give slots to the first in a queue's line."""
    held: dict[str, int] = {}
    if state.settings.counts:
        held = dict(await db.rows("slots", queue=state.name))
    free = plan.free(state, sum(held.values()))
    if free <= 0:
        return []
    choice = await _choose(db, state, workflows, free, held)
    chosen = list(choice.runs)
    still = {run for (run,) in await db.rows("lock_in_line", runs=chosen)} if chosen else set[int]()
    runs = [run for run in chosen if run in still]
    await _own(db, "admit", runs, worker, now)
    after = plan.admitted(state, choice, len(runs))
    if after != state:
        await db.run("admitted", name=state.name, arrival=after.arrival, turn=after.turn)
    return runs


async def _choose(
    db: Database, state: QueueState, workflows: list[str], free: int, held: dict[str, int]
) -> Choice:
    asking = pick(state.settings, state.turn, free, held)
    return await carried_out_by(asking, lambda question: _answer(db, state.name, workflows, question))


async def _answer(db: Database, queue: str, workflows: list[str], question: Question) -> list[Row]:
    match question:
        case Plain(limit):
            return await db.rows("line", queue=queue, workflows=workflows, limit=limit)
        case Levels():
            return await db.rows("line_levels", queue=queue, workflows=workflows, limit=LEVELS_MAX)
        case Lanes(workflow, rank, after, upto, limit):
            given = {"queue": queue, "workflow": workflow, "rank": rank, "limit": limit}
            if upto is None:
                return await db.rows("line_lanes", **given, after=after)
            return await db.rows("line_lanes_upto", **given, upto=upto)
        case Firsts(workflow, rank, lanes):
            names, numbers = [lane for lane, _ in lanes], [number for _, number in lanes]
            given = {"queue": queue, "workflow": workflow, "rank": rank}
            return await db.rows("line_firsts", **given, lanes=names, numbers=numbers)
