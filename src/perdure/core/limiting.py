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

from collections.abc import Callable, Mapping, Sequence

import msgspec

from perdure.core.permits import (
    WHOLE,
    Answers,
    Ask,
    Batch,
    Block,
    Bucket,
    Definition,
    LimitState,
    Permit,
    Reset,
    Settlement,
    Unblock,
)
from perdure.core.rates import MICRO, Rate, earliest, room, taken

#: How far ahead a permission is given, in microseconds.
HORIZON = 100_000

#: While a limit is blocked, those who want to begin look again at least so often, in microseconds: the block may be
#: taken back.
NAP = 900 * MICRO

#: Of how many settlements a share keeps the memory.
MEMORY = 16


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


class _Want:
    """What one who asks wants of one bucket."""

    __slots__ = ("amount", "bucket", "name", "pace", "state", "unit")

    def __init__(self, name: str, state: LimitState, unit: str, bucket: Bucket, amount: int) -> None:
        self.name = name
        self.state = state
        self.unit = unit
        self.bucket = bucket
        self.amount = amount
        self.pace = bucket.pace

    def too_much(self) -> str:
        bucket = self.bucket
        return (
            f"{self.amount} {self.unit} at once are more than the {bucket.limit} per {bucket.per:g} s of the rate "
            f"limit {self.name!r}: it would never be allowed"
        )

    def deserted(self, now: int) -> bool:
        """Whether those who should be in line don't come: longer than any of them can need, nothing has begun."""
        longest = self.pace.limit * self.pace.interval
        return max(self.bucket.arrival, self.state.blocked_until) + longest < now

    def expected(self, arrival: int, at: int) -> int:
        """The arrival time of a line once this has begun, in which what will come back takes no room."""
        back = self.amount * self.pace.interval * (WHOLE - self.bucket.share) // WHOLE
        return taken(self.pace, arrival, self.amount, at) - back


def _permit(states: Mapping[str, LimitState], ask: Ask, now: int) -> Permit:
    wants: list[_Want] = []
    nobody_before = now
    because = ""
    for name, costs in ask.costs.items():
        because = because or name
        state = states.get(name)
        if state is None:
            continue
        if state.blocked_until > nobody_before:
            nobody_before, because = state.blocked_until, name
        for unit, amount in costs.items():
            if (bucket := state.units.get(unit)) is not None:
                wants.append(_Want(name, state, unit, bucket, amount))
    for want in wants:
        if not 0 <= want.amount <= want.pace.limit:
            return Permit(0, False, want.name, impossible=want.too_much())
    if ask.waited:
        at, because = _earliest(wants, _arrival, 0, nobody_before, because)
    else:
        if all(want.deserted(now) for want in wants if want.amount):
            for want in wants:
                want.bucket.line = want.bucket.late = 0
        at, because = _earliest(wants, _end_of_line, now, nobody_before, because)
    if at > now + HORIZON:
        return _place(wants, ask, now, at, because, nobody_before)
    marks: dict[str, dict[str, int]] = {name: {} for name in ask.costs}
    slack = MICRO
    for want in wants:
        bucket, pace = want.bucket, want.pace
        if not ask.waited:  # it begins although it stands behind everybody: nobody waits any more
            bucket.line = bucket.late = 0
        bucket.arrival = taken(pace, bucket.arrival, want.amount, at)
        bucket.total += want.amount * pace.interval
        marks[want.name][want.unit] = bucket.total
        want.state.latest = max(want.state.latest, at)
        slack = min(slack, pace.slack)
    return Permit(at, True, because, slack, marks)


def _place(wants: Sequence[_Want], ask: Ask, now: int, at: int, because: str, nobody_before: int) -> Permit:
    """A place in line."""
    if nobody_before > now + NAP:
        return Permit(now + NAP, False, because)
    if ask.waited:
        at, because = _earliest(wants, _after_the_late, 0, at, because)
    for want in wants:
        bucket = want.bucket
        if ask.waited:
            bucket.late = want.expected(_after_the_late(bucket), at)
        else:
            bucket.line = want.expected(bucket.end_of_line, at)
    return Permit(at, False, because)


def _earliest(
    wants: Sequence[_Want], moment: Callable[[Bucket], int], now: int, not_before: int, because: str
) -> tuple[int, str]:
    """When all buckets agree, and because of which limit not earlier.

    Args:
        now: from when on what is larger than a burst has let the bucket drip; 0 of one who has waited for that.
    """
    best = not_before
    for want in wants:
        at = earliest(want.pace, moment(want.bucket), want.amount, now)
        if at > best:
            best, because = at, want.name
    return best, because


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
