"""What is kept of rate limits, and what passes between those who ask and the store; see limiting.py."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from perdure.core.rates import Pace, Rate

#: Thousandths in a whole.
WHOLE = 1000


class Bucket(msgspec.Struct, omit_defaults=True):
    """What is kept of one unit of a limit. Moments in microseconds since 1970.

    Attributes:
        limit, per, burst: the rate.
        arrival: when it would be empty if nothing more came.
        line, late: the same if those who wait had begun.
        total: microseconds that were ever reserved; the difference of two tells what was in between.
        share: how much of what is reserved doesn't come back, in thousandths, as seen lately.
    """

    limit: int
    per: float
    burst: int | None = None
    arrival: int = 0
    line: int = 0
    late: int = 0
    total: int = 0
    share: int = WHOLE

    @property
    def pace(self) -> Pace:
        return pace_of(self.limit, self.per, self.burst)

    @property
    def rate(self) -> Rate:
        return Rate(self.limit, self.per, self.burst)

    @property
    def end_of_line(self) -> int:
        return max(self.arrival, self.line, self.late)


class LimitState(msgspec.Struct, omit_defaults=True):
    """What is kept of one limit.

    Attributes:
        units: its buckets.
        blocked_until: nothing begins before.
        latest: the latest moment for which a permission was given.
    """

    units: dict[str, Bucket]
    blocked_until: int = 0
    latest: int = 0


#: What is asked of limits: how much of which unit, by the limits' names.
Costs: TypeAlias = Mapping[str, Mapping[str, int]]


class Ask(msgspec.Struct, frozen=True):
    """Somebody wants to begin.

    Attributes:
        waited: they have come at the moment that they were told.
    """

    costs: Costs
    waited: bool = False


class Permit(msgspec.Struct, frozen=True):
    """The answer.

    Attributes:
        at: when they may begin; with `firm` False, when to ask again.
        firm: it is a permission, which holds from `at` on for `slack` microseconds.
        limit: the name of the limit that made it this late.
        marks: by limit and unit, what settling needs.
        impossible: why it can never be; nothing was reserved.
    """

    at: int
    firm: bool
    limit: str
    slack: int = 0
    marks: Mapping[str, Mapping[str, int]] = {}
    impossible: str = ""


class Definition(msgspec.Struct, frozen=True):
    """The rates of a limit, by unit. With `fresh` they replace what the store has."""

    name: str
    rates: Mapping[str, Rate]
    fresh: bool = False


class Settlement(msgspec.Struct, frozen=True):
    """It has turned out how much was used of what had been reserved. `mark` is the permit's."""

    limit: str
    unit: str
    reserved: int
    used: int
    mark: int


class Block(msgspec.Struct, frozen=True):
    """Nothing begins before `until` (microseconds), nor before what is blocked already."""

    limit: str
    until: int


class Unblock(msgspec.Struct, frozen=True):
    """A block is over."""

    limit: str


class Reset(msgspec.Struct, frozen=True):
    """Forget what was used, who waits, and the block."""

    limit: str


Change: TypeAlias = Settlement | Block | Unblock | Reset


class Batch(msgspec.Struct, frozen=True):
    """What a worker wants of its limits at a time: definitions first, then changes, then those who ask."""

    definitions: Sequence[Definition] = ()
    changes: Sequence[Change] = ()
    asks: Sequence[Ask] = ()

    def names(self) -> list[str]:
        """The limits that it concerns."""
        found = {definition.name for definition in self.definitions}
        found.update(change.limit for change in self.changes)
        found.update(name for ask in self.asks for name in ask.costs)
        return sorted(found)


class Answers(msgspec.Struct, frozen=True):
    """What became of a batch.

    Attributes:
        permits: one for each ask.
        replaced: the definitions that were replaced by fresh ones, as they were.
    """

    permits: Sequence[Permit]
    replaced: Sequence[Definition] = ()


@functools.lru_cache(maxsize=1024)
def pace_of(limit: int, per: float, burst: int | None) -> Pace:
    """The pace of a rate."""
    return Rate(limit, per, burst).pace
