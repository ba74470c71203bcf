"""The queues of a memory store: who stands in line, who holds slots, and runs of which there may be only one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from perdure.core.queues import LATER, QueueSettings
from perdure.storage.answering import carried_out
from perdure.storage.chain import first_link
from perdure.storage.lines import Firsts, Lanes, Levels, Plain, Plan, Question, QueueState, pick
from perdure.storage.memory_run import Run
from perdure.storage.queues import (
    AHEAD_MAX,
    HOLDERS_MAX,
    QueueCounts,
    QueueRow,
    Standing,
    changed_queue,
    merged_counts,
)
from perdure.storage.records import NewRun


class MemoryQueues:
    """See QueueStore.

    Args:
        database: the MemoryDatabase, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Any], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def define(self, name: str, settings: QueueSettings, *, now: float) -> QueueSettings | None:
        before: QueueRow | None = self._database().queues.get(name)
        if before is None or before.defined != settings:
            self._put(before, changed_queue(before, name, defined=settings, now=now))
        return None if before is None else before.defined

    async def change(
        self,
        name: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        draining: bool | None = None,
        now: float,
    ) -> QueueRow:
        before = self._database().queues.get(name)
        row = changed_queue(before, name, overrides=overrides, paused=paused, draining=draining, now=now)
        self._put(before, row)
        return row

    async def all(self) -> list[QueueRow]:
        queues = self._database().queues
        return [queues[name] for name in sorted(queues)]

    async def counts(self, *, now: float) -> list[QueueCounts]:
        runs = [run for run in self._database().runs.values() if not run.ended]
        driven = Counter(run.queue for run in runs if run.owner is not None)
        slots = Counter(run.queue for run in runs if run.slot)
        waiting = [run for run in runs if run.wake_at is not None]
        due = [(run.queue, run.wake_at <= now, run.wake_at) for run in waiting if run.lane is None]
        lines = [(run.queue, run.rank != LATER, run.wake_at) for run in waiting if run.lane is not None]
        return merged_counts(list(driven.items()), _grouped(due), list(slots.items()), _grouped(lines))

    async def held(self, name: str) -> int:
        return sum(_slots(self._database(), name).values())

    async def standing(self, run: int) -> Standing | None:
        db = self._database()
        return _standing(db, db.runs[run]) if run in db.runs else None

    def _put(self, before: QueueRow | None, row: QueueRow) -> None:
        db = self._database()
        db.queues[row.name] = row
        newly = row.limited and not (before is not None and before.limited)
        for run in db.runs.values():
            if run.queue == row.name and not run.ended:
                if newly:
                    put_in_line(row, run, row.changed_at)
                elif run.lane is not None and run.rank != LATER:
                    run.lane, run.rank = row.settings.lane(run.key), row.settings.rank(run.priority)
        self._changed()


def _grouped(runs: Sequence[tuple[str, bool, float]]) -> list[tuple[str, int, int, float | None]]:
    """(queue, how many wait, how many will later, since when the first waits)."""
    names = sorted({queue for queue, _, _ in runs})
    found: list[tuple[str, int, int, float | None]] = []
    for name in names:
        waiting = [wake_at for queue, waits, wake_at in runs if queue == name and waits]
        later = sum(queue == name and not waits for queue, waits, _ in runs)
        found.append((name, len(waiting), later, min(waiting, default=None)))
    return found


def put_in_line(row: QueueRow | None, run: Run, now: float) -> None:
    """Give a run its place in its queue, if that has limits."""
    if row is None or not row.limited:
        return
    run.slot = run.started_at is not None
    if not run.slot:
        due = run.wake_at if run.wake_at is not None else run.paused or 0.0
        if due > now:
            run.lane, run.rank = "", LATER
        else:
            run.lane, run.rank = row.settings.lane(run.key), row.settings.rank(run.priority)


def stands_for(db: Any, run: NewRun) -> Run | None:
    """The live run that a start means by its dedup, if it has no other: nobody else may be made then."""
    if run.follows is None and run.id in db.keys:
        return None
    holder = with_dedup(db, run.dedup)
    if holder is None or not run.debounce:
        return holder
    if holder.started_at is not None or holder.owner is not None:
        holder.dedup = None
        return None
    if holder.workflow == run.workflow:
        put_off = run.wake_at
        if run.at_most is not None:
            put_off = min(put_off, holder.created_at + run.at_most)
        holder.events[0], holder.fingerprint = run.first_event, run.fingerprint
        holder.chain = first_link(holder.id, holder.generation, run.first_event)
        holder.links[0] = holder.chain
        holder.key, holder.priority, holder.updated_at = run.key, run.priority, run.created_at
        if holder.wake_at is not None:
            holder.wake_at = max(holder.wake_at, put_off)
        if holder.paused is not None:
            holder.paused = max(holder.paused, put_off)
        if holder.lane is not None:
            holder.lane, holder.rank = "", LATER
    return holder


def with_dedup(db: Any, dedup: str | None) -> Run | None:
    """The live run that has it."""
    if dedup is None:
        return None
    return next((run for run in db.runs.values() if run.dedup == dedup and not run.ended), None)


def _standing(db: Any, run: Run) -> Standing:
    row = db.queues.get(run.queue)
    if row is None or not row.limited:
        return Standing(row, run.key, run.priority, in_line=False, slot=False, later=False)
    slots = _slots(db, run.queue)
    by_key = slots.get(run.key or "", 0)
    full = row.settings.per_key is not None and run.key is not None and by_key >= row.settings.per_key
    holders = [
        held.id
        for held in db.runs.values()
        if held.queue == run.queue and held.slot and not held.ended and (not full or held.key == run.key)
    ]
    in_line, later = run.lane is not None, run.rank == LATER
    ahead = 0
    if in_line and not later and run.wake_at is not None:
        ahead = sum(
            other.rank > run.rank
            or (
                (other.rank, other.lane) == (run.rank, run.lane)
                and (other.wake_at, other.run) < (run.wake_at, run.run)
            )
            for other in _line(db, run.queue, None)
        )
    parent = db.runs.get(run.parent)
    return Standing(
        row,
        run.key,
        run.priority,
        in_line=in_line,
        slot=run.slot,
        later=later,
        ahead=min(ahead, AHEAD_MAX),
        held=sum(slots.values()),
        held_by_key=by_key,
        holders=holders[:HOLDERS_MAX],
        parent_holds=parent is not None and parent.slot and not parent.ended and parent.queue == run.queue,
    )


# -- claiming ---------------------------------------------------------------------------------------------


def _slots(db: Any, queue: str) -> dict[str, int]:
    return Counter(
        run.key or "" for run in db.runs.values() if run.queue == queue and run.slot and not run.ended
    )


def _line(db: Any, queue: str, workflows: Sequence[str] | None) -> list[Any]:
    """Those in line that may be admitted."""
    return [
        run
        for run in db.runs.values()
        if run.lane is not None
        and run.wake_at is not None
        and run.rank > LATER
        and run.queue == queue
        and (workflows is None or run.workflow in workflows)
    ]


def states_of(db: Any, queues: Sequence[str]) -> list[QueueState]:
    """Those of the queues that aren't like others."""
    rows = [db.queues[name] for name in queues if name in db.queues]
    return [
        QueueState(row.name, row.limited, row.paused, row.draining, row.settings, row.arrival, row.turn)
        for row in rows
    ]


def enter_lines(db: Any, states: Sequence[QueueState], workflows: Sequence[str], now: float) -> list[str]:
    """Give those their places whose time has come; the queues in whose lines somebody stands."""
    open_ = {state.name: state for state in states if state.limited and not state.paused}
    for run in db.runs.values():
        if run.rank == LATER and run.wake_at is not None and run.wake_at <= now and run.queue in open_:
            settings = open_[run.queue].settings
            run.lane, run.rank = settings.lane(run.key), settings.rank(run.priority)
    return [name for name in open_ if _line(db, name, workflows)]


def next_in_lines(db: Any, queues: Sequence[str], workflows: Sequence[str]) -> float | None:
    later = [
        run.wake_at
        for run in db.runs.values()
        if run.rank == LATER and run.wake_at is not None and run.queue in queues and run.workflow in workflows
    ]
    return min(later, default=None)


def admit(db: Any, plan: Plan, state: QueueState, workflows: Sequence[str]) -> list[int]:
    """Whom a queue admits now; its rate and turns are moved on."""
    held = _slots(db, state.name)
    free = plan.free(state, sum(held.values()))
    if free <= 0:
        return []
    asking = pick(state.settings, state.turn, free, held)
    choice = carried_out(asking, lambda question: _answer(_line(db, state.name, workflows), question))
    after = plan.admitted(state, choice, len(choice.runs))
    row: QueueRow = db.queues[state.name]
    db.queues[state.name] = msgspec.structs.replace(row, arrival=after.arrival, turn=after.turn)
    return list(choice.runs)


def _answer(line: list[Any], question: Question) -> list[tuple[Any, ...]]:
    match question:
        case Plain(limit):
            line.sort(key=lambda run: (-run.rank, run.wake_at, run.run))
            return [(run.run,) for run in line[:limit]]
        case Levels():
            return sorted({(run.rank, run.workflow) for run in line}, key=lambda row: (-row[0], row[1]))
        case Lanes(workflow, rank, after, upto, limit):
            heads: dict[str, float] = {}
            for run in line:
                wanted = run.lane > after if upto is None else run.lane <= upto
                if (run.workflow, run.rank) == (workflow, rank) and wanted:
                    heads[run.lane] = min(heads.get(run.lane, run.wake_at), run.wake_at)
            return sorted(heads.items())[:limit]
        case Firsts(workflow, rank, lanes):
            found: list[tuple[Any, ...]] = []
            for lane, number in lanes:
                here = [run for run in line if (run.workflow, run.rank, run.lane) == (workflow, rank, lane)]
                here.sort(key=lambda run: (run.wake_at, run.run))
                found += [(run.run, lane) for run in here[:number]]
            return found
