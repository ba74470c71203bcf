"""Who may begin when under rate limits: what a store keeps of one, and what asking for a permission makes of it.

A limit has one bucket for each unit that it counts (requests, tokens, ...), see rates.py. Two things come on top:

*Permissions and places in line.* A permission is given only for a moment that is at most `HORIZON` away, and is
used at once. Who would have to wait longer gets a place in line instead: a moment at which to come again. Nothing
is taken from the bucket for it, so one who comes late, or never, wastes nothing, and one who comes late isn't sent
to the end of the line. Three moments make a line: `arrival` is the bucket itself; `line` is where it would be if
all who wait had begun; `late` is the same for those who came again and had to be put off once more. Newcomers go
behind all of them, those who come again only ask the bucket. Once a newcomer may begin the lines are forgotten; so they
are if nobody has come for a period, since those in line may have been cancelled.

*Settling.* What was reserved and not used comes back, as far as no window can thereby exceed the limit: all that
was given since, at the latest moment given, must still fit. So what comes back late, when the bucket has dripped on
by then, isn't of any use. The lines are as long as what is expected to be kept, by the share of late; if more is
kept, who comes again is put off once more. What was used beyond is owed from now on.

All of it is arithmetic in whole microseconds, changed in place: a store holds the row locked, calls `turn`, and
writes it back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from perdure.core.rates import MICRO, Demand, Pace, Rate, reserve, room

#: How far ahead a permission is given, in microseconds.
HORIZON = 100_000

#: While a limit is blocked, those who want to begin look again at least so often, in microseconds: the block may be
#: taken back.
NAP = 900 * MICRO

#: Thousandths in a whole, and of how many settlements a share keeps the memory.
WHOLE = 1000
MEMORY = 16


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


def turn(states: dict[str, LimitState], batch: Batch, now: int) -> Answers:
    """Do a batch.

    Args:
        states: the limits that the batch concerns, as far as there are any; they are changed in place.
        now: microseconds since 1970.
    """
    replaced: list[Definition] = []
    for definition in batch.definitions:
        before = _define(states, definition, now)
        if before is not None:
            replaced.append(before)
    for change in batch.changes:
        state = states.setdefault(change.limit, LimitState({}))
        match change:
            case Settlement():
                _settle(state, change, now)
            case Block():
                state.blocked_until = max(state.blocked_until, change.until)
            case Unblock():
                state.blocked_until = 0
            case Reset():
                for unit, bucket in state.units.items():
                    state.units[unit] = Bucket(bucket.limit, bucket.per, bucket.burst)
                state.blocked_until = state.latest = 0
    return Answers([_permit(states, ask, now) for ask in batch.asks], replaced)


def _define(states: dict[str, LimitState], definition: Definition, now: int) -> Definition | None:
    """Returns what the limit was, if it was something else."""
    state = states.get(definition.name)
    if state is None or not state.units:
        units = {unit: Bucket(rate.limit, rate.per, rate.burst) for unit, rate in definition.rates.items()}
        states[definition.name] = LimitState(units, 0 if state is None else state.blocked_until)
        return None
    old = {unit: bucket.rate for unit, bucket in state.units.items()}
    if not definition.fresh or old == definition.rates:
        return None
    state.units = {
        unit: _converted(state.units.get(unit), rate, now) for unit, rate in definition.rates.items()
    }
    return Definition(definition.name, old)


def _converted(old: Bucket | None, rate: Rate, now: int) -> Bucket:
    """A bucket at another rate, as full as the old one."""
    new = Bucket(rate.limit, rate.per, rate.burst)
    if old is not None:
        before, after = old.pace.interval, new.pace.interval

        def moved(moment: int) -> int:
            return moment if moment <= now else now - (now - moment) * after // before  # rounded up

        new.arrival, new.line, new.late = moved(old.arrival), moved(old.line), moved(old.late)
        new.total = old.total
    return new


def _settle(state: LimitState, settlement: Settlement, now: int) -> None:
    bucket = state.units.get(settlement.unit)
    if bucket is None:
        return
    change = (settlement.used - settlement.reserved) * bucket.pace.interval
    if change > 0:
        bucket.total += change
        bucket.arrival = max(bucket.arrival, now) + change
        bucket.line += change if bucket.line > now else 0
        bucket.late += change if bucket.late > now else 0
        return
    reserved = settlement.reserved * bucket.pace.interval
    if reserved:
        floor = max(now, state.latest) + bucket.total - settlement.mark
        before = bucket.arrival
        bucket.arrival = min(before, max(before + change, floor))
        kept = WHOLE - WHOLE * (before - bucket.arrival) // reserved
        bucket.share += (kept - bucket.share) // MEMORY


def _permit(states: Mapping[str, LimitState], ask: Ask, now: int) -> Permit:
    wanted = [
        (name, state, unit, bucket, amount)
        for name, costs in ask.costs.items()
        if (state := states.get(name)) is not None
        for unit, amount in costs.items()
        if (bucket := state.units.get(unit)) is not None
    ]
    for name, _, unit, bucket, amount in wanted:
        if not 0 <= amount <= bucket.limit:
            why = (
                f"{amount} {unit} at once are more than the {bucket.limit} per {bucket.per:g} s of the rate limit "
                f"{name!r}: it would never be allowed"
            )
            return Permit(0, False, name, impossible=why)
    concerned = {name: states[name] for name in ask.costs if name in states}

    def earliest(moment: Callable[[Bucket], int]) -> tuple[int, str]:
        """When, and because of which limit."""
        best, because = now, next(iter(ask.costs), "")
        for name, state in concerned.items():
            demands = [
                Demand(bucket.pace, moment(bucket), amount)
                for of, _, _, bucket, amount in wanted
                if of == name
            ]
            # Who has waited has let the bucket drip meanwhile: that counts for what is larger than its burst.
            at, _ = reserve(demands, 0 if ask.waited else now, max(now, state.blocked_until))
            if at > best:
                best, because = at, name
        return best, because

    if not ask.waited and all(
        _deserted(bucket, state, now) for _, state, _, bucket, amount in wanted if amount
    ):
        for _, _, _, bucket, _ in wanted:
            bucket.line = bucket.late = 0
    at, because = earliest(_arrival if ask.waited else _end_of_line)
    if at > now + HORIZON:
        blocked = [state.blocked_until for state in concerned.values() if state.blocked_until > now + NAP]
        if blocked:
            return Permit(now + NAP, False, because)
        if ask.waited:
            at, because = earliest(_after_the_late)
        for _, _, _, bucket, amount in wanted:
            if ask.waited:
                bucket.late = _expected(bucket, _after_the_late(bucket), amount, at)
            else:
                bucket.line = _expected(bucket, bucket.end_of_line, amount, at)
        return Permit(at, False, because)
    marks: dict[str, dict[str, int]] = {name: {} for name in ask.costs}
    for name, _, unit, bucket, amount in wanted:
        if not ask.waited:  # it begins although it stands behind everybody: nobody waits any more
            bucket.line = bucket.late = 0
        bucket.arrival = _taken(bucket, bucket.arrival, amount, at)
        bucket.total += amount * bucket.pace.interval
        marks[name][unit] = bucket.total
    for state in concerned.values():
        state.latest = max(state.latest, at)
    slack = min((bucket.pace.slack for _, _, _, bucket, _ in wanted), default=MICRO)
    return Permit(at, True, because, slack, marks)


def _deserted(bucket: Bucket, state: LimitState, now: int) -> bool:
    """Whether those who should be in line don't come: longer than any of them can need, nothing has begun."""
    longest = bucket.limit * bucket.pace.interval
    return max(bucket.arrival, state.blocked_until) + longest < now


def _taken(bucket: Bucket, arrival: int, amount: int, at: int) -> int:
    """The arrival time once this much has begun at that moment."""
    return reserve([Demand(bucket.pace, arrival, amount)], 0, at)[1][0]


def _expected(bucket: Bucket, arrival: int, amount: int, at: int) -> int:
    """The same for a line, in which what will come back takes no room."""
    back = amount * bucket.pace.interval * (WHOLE - bucket.share) // WHOLE
    return _taken(bucket, arrival, amount, at) - back


def _arrival(bucket: Bucket) -> int:
    return bucket.arrival


def _end_of_line(bucket: Bucket) -> int:
    return bucket.end_of_line


def _after_the_late(bucket: Bucket) -> int:
    return max(bucket.arrival, bucket.late)


class Usage(msgspec.Struct, frozen=True):
    """How things stand with one unit.

    Attributes:
        free: how much may begin at this moment.
        waiting: how much those who wait have asked for.
        next_at: when the next one may begin that comes now, microseconds.
    """

    rate: Rate
    free: int
    waiting: int
    next_at: int


def usage(state: LimitState, now: int) -> dict[str, Usage]:
    """How things stand with a limit, by unit."""
    found: dict[str, Usage] = {}
    for unit, bucket in state.units.items():
        pace = bucket.pace
        free, next_at = room(pace, bucket.end_of_line, max(now, state.blocked_until))
        ahead = max(0, bucket.end_of_line - max(bucket.arrival, now))
        found[unit] = Usage(
            bucket.rate, 0 if state.blocked_until > now else free, ahead // pace.interval, next_at
        )
    return found
