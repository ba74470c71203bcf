"""Claiming from queues with limits in a SQLite store: the writer's transaction answers what `pick` asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.storage.answering import carried_out
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
from perdure.storage.records import Claimed, RunRow
from perdure.storage.sqlite.claimed import claimed_rows
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.rows import as_json

_states = msgspec.json.Decoder(list[QueueState], strict=False)


def queue_states(special: str) -> list[QueueState]:
    """The states of queues that aren't like others, from JSON; there are mostly none."""
    return [] if special == "[]" else _states.decode(special)


def claim_limited(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    states: Sequence[QueueState],
    since: float | None,
    now: float,
    limit: int,
) -> Claimed:
    """A claim where some queues aren't like others.

    Args:
        states: of those.
        since: when the last suspected run became due.
    """
    known = as_json(workflows)
    in_line = as_json([state.name for state in states if state.limited and not state.paused])
    fitting: dict[str, Value] = {"queues": in_line, "workflows": known}
    db.run("enter_lines", {**fitting, "now": now, "limit": ENTER_MAX})
    waiting = [name for (name,) in db.rows("lines", fitting)]
    plan = Plan(queues, states, waiting, limit, now)
    runs: list[int] = []

    def take(query: str, names: Sequence[str], most: int) -> int:
        given: dict[str, Value] = {
            "queues": as_json(names),
            "workflows": known,
            "worker": worker,
            "now": now,
            "limit": most,
        }
        found = [run for (run,) in db.rows("due", given)] if names and most > 0 else []
        _own(db, query, found, worker, now)
        runs.extend(found)
        return len(found)

    plan.took(take("claim", plan.plain, plan.due()), due=True)
    plan.took(take("admit", plan.back, plan.due()), due=True)
    for state in plan.narrow:
        own = db.value("slots_here", {"worker": worker, "queue": state.name})
        plan.owns_more(state, take("admit", [state.name], plan.owns(state, own)))
    for state in plan.lines:
        runs += _admit(db, plan, state, known, worker, now)
    rows: list[RunRow] = claimed_rows(db, runs) if runs else []
    ahead: dict[str, Value] = {"queues": as_json(plan.looks_ahead_in()), "workflows": known, "worker": worker}
    next_at = plan.next_at(db.value("next_at", ahead), db.value("next_in_lines", fitting))
    return Claimed(rows, next_at, plan.waits, since)


def _own(db: Database, query: str, runs: Sequence[int], worker: int, now: float) -> None:
    if runs:
        db.run(query, {"worker": worker, "now": now, "runs": as_json(runs)})


def _admit(
    db: Database, plan: Plan, state: QueueState, workflows: str, worker: int, now: float
) -> Sequence[int]:
    """Give slots to the first in a queue's line."""
    held: dict[str, int] = dict(db.rows("slots", {"queue": state.name})) if state.settings.counts else {}
    free = plan.free(state, sum(held.values()))
    if free <= 0:
        return ()
    choice = _choose(db, state, workflows, free, held)
    _own(db, "admit", choice.runs, worker, now)
    after = plan.admitted(state, choice, len(choice.runs))
    if after != state:
        db.run("admitted", {"name": state.name, "arrival": after.arrival, "turn": after.turn})
    return choice.runs


def _choose(db: Database, state: QueueState, workflows: str, free: int, held: dict[str, int]) -> Choice:
    asking = pick(state.settings, state.turn, free, held)
    return carried_out(asking, lambda question: _answer(db, state.name, workflows, question))


def _answer(db: Database, queue: str, workflows: str, question: Question) -> list[Row]:
    given: dict[str, Any] = {"queue": queue}
    match question:
        case Plain(limit):
            return db.rows("line", {**given, "workflows": workflows, "limit": limit})
        case Levels():
            return db.rows("line_levels", {**given, "workflows": workflows, "limit": LEVELS_MAX})
        case Lanes(workflow, rank, after, upto, limit):
            given |= {"workflow": workflow, "rank": rank, "limit": limit}
            if upto is None:
                return db.rows("line_lanes", {**given, "after": after})
            return db.rows("line_lanes_upto", {**given, "upto": upto})
        case Firsts(workflow, rank, lanes):
            given |= {"workflow": workflow, "rank": rank}
            found: list[Row] = []
            for number in sorted({number for _, number in lanes}):
                alike = as_json([lane for lane, of_lane in lanes if of_lane == number])
                found += db.rows("line_firsts", {**given, "lanes": alike, "limit": number})
            return found
