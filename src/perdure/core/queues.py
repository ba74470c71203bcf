"""What limits a queue's runs: how many may go on at once, how many may begin, and whose turn it is.

A run of a queue with limits stands in *line* until it is admitted, and then holds a *slot* until its end, however
often it waits, leaves memory or changes its worker in between. Pure decisions; the stores ask them inside the
transaction that admits.

In a line the highest rank comes first: the priority, where the queue heeds it. Runs of one rank stand in *lanes*: one
for each key where the queue treats keys apart, else a single one. A lane is first come, first served; lanes take turns.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import msgspec

from perdure.core.rates import MICRO, Demand, Rate, reserve, room

#: Priorities go from minus this to this.
PRIORITY_MAX = 1_000_000

#: The rank of runs whose time hasn't come: below every priority.
LATER = -2_000_000_000


class QueueSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """The limits of a queue; None is no limit.

    Attributes:
        concurrency: runs that hold a slot at once, over all workers.
        per_worker: runs of the queue that one worker has in memory at once.
        rate: runs that may begin in any window, over all workers.
        per_key: runs of one key that hold a slot at once.
        priority: runs with a higher priority come first.
        fairness: "key": keys take turns, those with the fewest slots first.
    """

    concurrency: int | None = None
    per_worker: int | None = None
    rate: Rate | None = None
    per_key: int | None = None
    priority: bool = False
    fairness: str | None = None

    @property
    def limited(self) -> bool:
        """Whether its runs have to stand in line."""
        return self != QueueSettings()

    @property
    def keyed(self) -> bool:
        """Whether each key has a lane of its own."""
        return self.per_key is not None or self.fairness is not None

    @property
    def counts(self) -> bool:
        """Whether it matters how many slots are held."""
        return self.keyed or self.concurrency is not None

    def lane(self, key: str | None) -> str:
        """Where runs with this key stand."""
        return key or "" if self.keyed else ""

    def rank(self, priority: int) -> int:
        return priority if self.priority else 0


class Head(msgspec.Struct, frozen=True, gc=False):
    """A lane's run that comes next, of one workflow."""

    lane: str
    workflow: str
    wake_at: float


def free_slots(
    settings: QueueSettings, *, most: int, held: int, owned: int, arrival: int, now: float
) -> tuple[int, float | None]:
    """How many runs may be admitted now, and when the rate lets the next through if it is what holds them up.

    Args:
        most: how many the worker can take.
        held: slots that are held, over all workers.
        owned: runs of the queue that the worker has.
        arrival: of the rate's bucket.
        now: wall-clock seconds.

    Example:
        >>> free_slots(QueueSettings(concurrency=3), most=9, held=1, owned=1, arrival=0, now=5.0)
        (2, None)
    """
    free = most
    if settings.concurrency is not None:
        free = min(free, settings.concurrency - held)
    if settings.per_worker is not None:
        free = min(free, settings.per_worker - owned)
    if free <= 0:
        return 0, None
    if settings.rate is None:
        return free, None
    rated, next_at = room(settings.rate.pace, arrival, micros(now))
    return (min(free, rated), None) if rated else (0, (next_at + 1) / MICRO)


def after_admitting(settings: QueueSettings, arrival: int, admitted: int, now: float) -> int:
    """The arrival time of the rate's bucket once these have begun."""
    if settings.rate is None or not admitted:
        return arrival
    _, (after,) = reserve([Demand(settings.rate.pace, arrival, admitted)], micros(now))
    return after


def micros(seconds: float) -> int:
    return int(seconds * MICRO)


def share(
    settings: QueueSettings, heads: Sequence[Head], free: int, held: Mapping[str, int]
) -> dict[int, int]:
    """How many runs of which lanes are admitted: by places in `heads`.

    With fairness the lane with the fewest slots is next, of those the first; without it the lanes whose heads have
    waited longest take turns.

    Args:
        heads: in the order of turns.
        held: slots held by lane.

    Example:
        >>> heads = [Head("a", "w", 1.0), Head("b", "w", 2.0)]
        >>> share(QueueSettings(fairness="key"), heads, 3, {"a": 2})
        {1: 2, 0: 1}
    """
    fair = settings.fairness is not None
    given: dict[str, int] = {}
    chosen: dict[int, int] = {}

    def load(lane: str) -> int:
        return given.get(lane, 0) + (held.get(lane, 0) if fair else 0)

    def full(lane: str) -> bool:
        if settings.per_key is None or not lane:
            return False
        return held.get(lane, 0) + given.get(lane, 0) >= settings.per_key

    waiting = [
        (load(head.lane), place if fair else head.wake_at, place)
        for place, head in enumerate(heads)
        if not full(head.lane)
    ]
    heapq.heapify(waiting)
    while free and waiting:
        seen, order, place = heapq.heappop(waiting)
        lane = heads[place].lane
        if full(lane):
            continue
        if seen == load(lane):
            chosen[place] = chosen.get(place, 0) + 1
            given[lane] = given.get(lane, 0) + 1
            free -= 1
        heapq.heappush(waiting, (load(lane), order, place))
    return chosen
