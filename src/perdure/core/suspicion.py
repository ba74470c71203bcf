"""Which runs may be killing their workers, and how the guilty one is told from those that were only there.

A worker that dies takes all its runs down, and each of those that recorded nothing counts a recovery. One or two may
happen to anybody. From then on a run is *suspected*: it doesn't come to workers like the others, but is tried by one
that has nothing else in its hands, the most suspected first, and of those alike the one that came to a worker last:
the others were there for a while, and nothing happened. The guilty one is there whenever a worker dies, so it soon has
the highest count, is tried alone, and is blocked; who is innocent records something, or waits, and is cleared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SUSPECTED = 2  #: recoveries in a row from which a run is suspected; the stores' statements say so, too

#: Seconds that suspected runs are left to workers without anything else to do; then, if none has died meanwhile, any
#: worker takes one.
PATIENCE = 5.0

#: How many that have the same count are tried together: many innocent runs may have come into suspicion with one.
TOGETHER = {2: 64, 3: 8}
TOGETHER_MAX = max(TOGETHER.values())

#: From so many on, one worker in the fleet tries some at a time, so that the others go on with their work.
ONE_TRIAL = 3

#: A suspected run, its recoveries, and its queue.
Suspected = tuple[int, int, str]


def window(recoveries: int) -> float:
    """How many seconds a worker keeps to itself what it tries: long enough at some time for whatever kills slowly."""
    return 2.0 ** (min(recoveries, 16) - 4)  # the stores' statements have this, too


def tried_together(found: Sequence[Suspected], rooms: Mapping[str, int], most: int) -> list[int]:
    """Who of the suspected, the most suspected first, a worker tries now.

    Args:
        rooms: of queues that limit what one worker has, how many more it may.
        most: how many runs it can take.
    """
    chosen: list[int] = []
    left = dict(rooms)
    together = min(most, TOGETHER.get(found[0][1], 1)) if found else 0
    for run, _, queue in found:
        if len(chosen) == together:
            break
        if left.get(queue, 1) > 0:
            chosen.append(run)
            if queue in left:
                left[queue] -= 1
    return chosen
