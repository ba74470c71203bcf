"""Whom a queue admits next, as questions to a store: the same for all of them, each answers in its own way.

`pick` is a generator: it yields questions about the line, is sent the answers, and returns its choice. What it reads is
in proportion to the runs it admits and the keys that hold slots, not to the length of the line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from perdure.core.queues import Head, QueueSettings, after_admitting, free_slots, share

#: Lanes looked at. Where turns don't matter, but who has waited longest, of so many in any case.
_LOOK_MIN = 256
_LOOK_MAX = 10_000

#: How often lanes share again, since some had fewer runs than their share.
_ROUNDS = 10

#: How many runs get their place in line at a time when their time has come, and how many ranks are looked at.
ENTER_MAX = 1000
LEVELS_MAX = 64

#: A claim that found nobody to admit, but hasn't looked at all of a long line, goes on after so many seconds.
LOOK_AGAIN = 0.05


class Plain(msgspec.Struct, frozen=True, gc=False):
    """The first runs of a line with one lane: rows of (run)."""

    limit: int


class Levels(msgspec.Struct, frozen=True, gc=False):
    """The ranks that are there: rows of (rank, workflow), the highest first."""


class Lanes(msgspec.Struct, frozen=True, gc=False):
    """The lanes of a rank and workflow whose names are above `after`, or those up to `upto` if that is given: rows of
    (lane, wake_at of its head), by name."""

    workflow: str
    rank: int
    after: str
    upto: str | None
    limit: int


class Firsts(msgspec.Struct, frozen=True, gc=False):
    """The first so many runs of these lanes: rows of (run, lane)."""

    workflow: str
    rank: int
    lanes: Sequence[tuple[str, int]]


Question: TypeAlias = Plain | Levels | Lanes | Firsts


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Whom to admit.

    Attributes:
        turn: the lane whose turn it was last.
        complete: nobody else could be admitted, or nobody else may.
    """

    runs: Sequence[int]
    turn: str
    complete: bool


class QueueState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a claim needs to know of a queue: its settings, and how far its rate and its lanes' turns are."""

    name: str
    limited: bool
    paused: bool
    draining: bool
    settings: QueueSettings
    arrival: int
    turn: str


def pick(
    settings: QueueSettings, turn: str, free: int, held: Mapping[str, int]
) -> Generator[Question, Sequence[Any], Choice]:
    """Choose up to `free` runs.

    Args:
        turn: the lane whose turn it was last.
        held: slots held by lane.
    """
    if not settings.keyed:
        rows = yield Plain(free)
        return Choice([run for (run,) in rows], turn, complete=True)
    runs: list[int] = []
    here = Counter[str](held)
    levels: dict[int, list[str]] = {}
    for rank, workflow in (yield Levels()):
        levels.setdefault(rank, []).append(workflow)
    for rank, workflows in levels.items():
        wanted = free - len(runs)
        if not wanted:
            break
        look = min(max(wanted + len(here) + 1, 0 if settings.fairness else _LOOK_MIN), _LOOK_MAX)
        heads, whole = yield from _heads(workflows, rank, turn, look)
        level = _Level(rank, heads)
        done = yield from _choose(settings, level, wanted, here)
        runs += level.runs
        turn = level.last or (heads[-1].lane if heads and not whole else turn)
        if not (done and whole) and len(runs) < free:
            return Choice(runs, turn, complete=False)  # before any of a lower rank
    return Choice(runs, turn, complete=True)


class _Level:
    """The runs of one rank that are chosen."""

    def __init__(self, rank: int, heads: Sequence[Head]) -> None:
        self.rank = rank
        self.heads = heads
        self.runs: list[int] = []
        self.last: str | None = None
        self.taken = Counter[int]()  #: by places in heads
        self.exhausted: set[int] = set()


def _choose(
    settings: QueueSettings, level: _Level, wanted: int, here: Counter[str]
) -> Generator[Question, Sequence[Any], bool]:
    """Choose runs of one rank. Where a lane has fewer than its share, the others share again.

    Returns:
        Whether nobody else could be chosen.
    """
    farthest = -1
    for _ in range(_ROUNDS):
        left = [place for place in range(len(level.heads)) if place not in level.exhausted]
        shares = share(settings, [level.heads[place] for place in left], wanted - len(level.runs), here)
        wishes = {left[at]: number for at, number in shares.items()}
        if not wishes:
            return True
        farthest = max(farthest, *wishes)
        level.last = level.heads[farthest].lane
        for workflow in sorted({level.heads[place].workflow for place in wishes}):
            places = {level.heads[at].lane: at for at in wishes if level.heads[at].workflow == workflow}
            lanes = [(lane, level.taken[at] + wishes[at]) for lane, at in places.items()]
            found: dict[str, list[int]] = {}
            for run, lane in (yield Firsts(workflow, level.rank, lanes)):
                found.setdefault(lane, []).append(run)
            for lane, at in places.items():
                fresh = found.get(lane, [])[level.taken[at] :]
                level.runs += fresh
                level.taken[at] += len(fresh)
                here[lane] += len(fresh)
                if len(fresh) < wishes[at]:
                    level.exhausted.add(at)
        if len(level.runs) == wanted:
            return True
    return False


def _heads(
    workflows: Sequence[str], rank: int, turn: str, look: int
) -> Generator[Question, Sequence[Any], tuple[list[Head], bool]]:
    """The heads of a rank's lanes in the order of their turns, at most `look`, and whether that is all of them."""
    found: list[Head] = []
    whole = True
    for after, upto in ((turn, None), ("", turn)):
        if len(found) >= look:
            return found[:look], False
        part: list[Head] = []
        for workflow in workflows:
            rows = yield Lanes(workflow, rank, after, upto, look)
            whole = whole and len(rows) < look
            part += [Head(lane, workflow, wake_at) for lane, wake_at in rows]
        found += sorted(part, key=lambda head: head.lane)
    return found[:look], whole and len(found) <= look


class Plan:
    """What one claim may take from which queues, and when there may be more.

    Args:
        queues: those that the worker serves.
        states: of those of them that aren't like others.
        waiting: names of those in which somebody stands in line.
        most: how many runs the worker can take.

    Attributes:
        plain, back: queues without and with limits in which what is due may be taken; those of `back` that limit
            what one worker has are in `narrow` instead.
        lines: queues that may admit somebody.
        waits: the end of a run may let another begin.
    """

    def __init__(
        self,
        queues: Sequence[str],
        states: Sequence[QueueState],
        waiting: Sequence[str],
        most: int,
        now: float,
    ) -> None:
        special = {state.name: state for state in states}
        self._left = most
        self._now = now
        self._next: list[float | None] = []
        self._owned: dict[str, int] = {}
        held = {state.name for state in states if state.paused}
        limited = [state for state in states if state.limited and not state.paused]
        self.plain = [
            name for name in queues if name not in held and not (name in special and special[name].limited)
        ]
        self.back = [state.name for state in limited if state.settings.per_worker is None]
        self.narrow = [state for state in limited if state.settings.per_worker is not None]
        self.limited = [state.name for state in limited]
        self.lines = [state for state in limited if state.name in waiting and not state.draining]
        self.waits = bool(self.lines)
        #: Half of a claim is for those in line, so that a backlog of what was admitted before can't keep them out.
        self._due = most if not self.lines else max(1, most - most // 2)
        self._full: set[str] = set()

    def due(self) -> int:
        """How many of those that are due may be taken."""
        return self._due

    def took(self, number: int, *, due: bool = False) -> None:
        self._left -= number
        if due:
            self._due -= number

    def owns(self, state: QueueState, number: int) -> int:
        """So many runs of a queue the worker has already; how many of those due it may take."""
        assert state.settings.per_worker is not None
        self._owned[state.name] = number
        free = min(self._due, state.settings.per_worker - number)
        if number >= state.settings.per_worker:
            self._full.add(state.name)
            self.waits = True
        return max(0, free)

    def owns_more(self, state: QueueState, number: int) -> None:
        self.took(number, due=True)
        self.owns(state, self._owned[state.name] + number)

    def free(self, state: QueueState, held: int) -> int:
        """How many of a line may be admitted."""
        free, next_at = free_slots(
            state.settings,
            most=self._left,
            held=held,
            owned=self._owned.get(state.name, 0),
            arrival=state.arrival,
            now=self._now,
        )
        self._next.append(next_at)
        return free

    def admitted(self, state: QueueState, choice: Choice, number: int) -> QueueState:
        """So many of those chosen have been admitted; the queue's state after it."""
        self.took(number)
        if not choice.complete:
            self._next.append(self._now if number else self._now + LOOK_AGAIN)
        arrival = after_admitting(state.settings, state.arrival, number, self._now)
        return msgspec.structs.replace(state, arrival=arrival, turn=choice.turn)

    def looks_ahead_in(self) -> list[str]:
        """In which queues a run may be due later."""
        open_ = [*self.plain, *self.back]
        return open_ + [state.name for state in self.narrow if state.name not in self._full]

    def next_at(self, *moments: float | None) -> float | None:
        """The earliest moment at which there may be more."""
        known = [at for at in (*self._next, *moments) if at is not None]
        return min(known) if known else None
