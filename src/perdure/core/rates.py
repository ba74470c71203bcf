"""So many per so long: the arithmetic of rates, exact and without a memory of single calls.

A bucket is one number, the *theoretical arrival time*: when it would be empty if nothing more came. This is the
Generic Cell Rate Algorithm of ITU-T I.371, in whole microseconds so that every store computes the same, with two
things added:

- A rate is strict. In no window of the length `per` do more than `limit` begin, wherever the window lies. A bucket
  that holds `burst` and lets one through every `interval` admits up to `burst + ceil(per / interval) - 1` in a
  window `[t, t + per)`, so the interval is `per / (limit - burst + 1)`. (The usual `per / limit` lets through
  nearly twice the limit in the window after a pause.)
- Permissions are given ahead of time, in the order asked for, with the moment at which each becomes valid. It then
  holds for `SLACK` of that moment; who comes later asks again. The windows of what really begins are therefore
  covered by windows that are longer by the slack, and the interval is computed for those.

Something larger than the burst waits until it would have dripped out of the bucket's hole beforehand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import msgspec

MICRO = 1_000_000

#: How long a permission holds from its moment on: this share of the period, and at most so many seconds.
SLACK_SHARE = 0.05
SLACK_MAX = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """So many per so long, over all workers together, in any window of that length.

    Args:
        limit: how many.
        per: the length of the window in seconds.
        burst: how many may begin at one moment after a pause, at most `limit`; a tenth of the limit if not given.
            The rest is spread evenly, so the larger the burst, the longer the wait after it.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> Rate(500, per=60).pace
        Pace(limit=500, burst=50, interval=135255, slack=1000000)
    """

    limit: int
    per: float
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.limit < 1 or not math.isfinite(self.per) or self.per <= 0:
            msg = f"{self}: limit is a count of at least 1, per is a number of seconds above 0"
            raise ValueError(msg)
        if self.burst is not None and not 1 <= self.burst <= self.limit:
            msg = f"{self}: burst is a count from 1 to the limit"
            raise ValueError(msg)

    @property
    def pace(self) -> Pace:
        """The same in the terms of a bucket."""
        burst = self.burst or max(1, self.limit // 10)
        slack = min(self.per * SLACK_SHARE, SLACK_MAX)
        interval = math.ceil((self.per + slack) * MICRO / (self.limit - burst + 1))
        return Pace(self.limit, burst, interval, int(slack * MICRO))


class Pace(msgspec.Struct, frozen=True):
    """How a bucket behaves; times in microseconds.

    Attributes:
        limit: the most that can be asked for at once.
        burst: how much may begin at one moment.
        interval: in which one drips out.
        slack: how long a permission holds.
    """

    limit: int
    burst: int
    interval: int
    slack: int


class Demand(msgspec.Struct, frozen=True):
    """What is asked of one bucket.

    Attributes:
        arrival: the bucket's theoretical arrival time, microseconds since 1970; 0 of one never used.
        cost: how much, from 0 to the pace's limit.
    """

    pace: Pace
    arrival: int
    cost: int


def reserve(demands: Sequence[Demand], now: int, not_before: int = 0) -> tuple[int, list[int]]:
    """Give a permission that all of these buckets agree to, for the earliest moment.

    Args:
        now: microseconds since 1970.
        not_before: the earliest moment whatever the buckets say.

    Returns:
        The moment from which it holds, and the buckets' new arrival times.

    Raises:
        ValueError: more is asked for at once than a bucket's limit; that could never be.

    Example:
        >>> one_a_second = Pace(limit=1, burst=1, interval=1_000_000, slack=0)
        >>> reserve([Demand(one_a_second, arrival=0, cost=1)], now=5_000_000)
        (5000000, [6000000])
        >>> reserve([Demand(one_a_second, arrival=6_000_000, cost=1)], now=5_000_000)
        (6000000, [7000000])
    """
    ready = max(now, not_before)
    for demand in demands:
        if not 0 <= demand.cost <= demand.pace.limit:
            msg = f"{demand.cost} at once is more than the limit of {demand.pace.limit}: it would never be allowed"
            raise ValueError(msg)
        ready = max(ready, earliest(demand.pace, demand.arrival, demand.cost, now))
    return ready, [taken(demand.pace, demand.arrival, demand.cost, ready) for demand in demands]


def earliest(pace: Pace, arrival: int, cost: int, now: int) -> int:
    """When a bucket lets this much begin that is asked for now; 0 of nothing."""
    if cost > pace.burst:  # it begins only when what exceeds the burst has dripped out in advance
        return max(arrival, now) + (cost - pace.burst) * pace.interval
    return arrival + (cost - pace.burst) * pace.interval if cost else 0


def taken(pace: Pace, arrival: int, cost: int, ready: int) -> int:
    """The arrival time once this much has begun at `ready`."""
    if not cost:
        return arrival
    excess = max(0, cost - pace.burst)
    return max(arrival + excess * pace.interval, ready) + cost * pace.interval


def room(pace: Pace, arrival: int, now: int) -> tuple[int, int]:
    """How many single ones may begin now, and when the next may (now, if any may).

    Example:
        >>> room(Pace(limit=10, burst=3, interval=100, slack=0), arrival=150, now=0)
        (1, 0)
    """
    full = max(0, arrival - now)
    free = pace.burst - -(-full // pace.interval)
    if free >= 1:
        return free, now
    return 0, arrival - (pace.burst - 1) * pace.interval
