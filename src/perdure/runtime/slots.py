"""The slots of a schedule: from cron expressions, intervals and single moments to instants.

Cron expressions are read in the schedule's time zone, the way Debian's cron does when clocks change:

- one with fixed hours and minutes ("30 2 * * *") has one slot a day. If that time doesn't exist on the day on
  which clocks are set forward, the slot is the first moment that does; if it exists twice, it is the first;
- one that begins its hours or minutes with a star ("*/15 * * * *", "0 * * * *") follows the time that really
  passes: it has no slot in the hour that doesn't exist, and slots in both hours that are called the same.

cronsim, which reads them, belongs to the extra `perdure[schedules]`.
"""

from __future__ import annotations

import importlib
import itertools
import math
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from perdure.core.schedules import Schedule, Timing, fires_at
from perdure.errors import ConfigurationError

#: Shortest interval, in seconds.
EVERY_MIN = 0.1

#: A slot counts as missed only when it is later than this, whatever its schedule says: workers may be busy.
LATE_MAX = 10.0

#: Slots looked at in one go.
SLOTS_MAX = 500


def slots(timing: Timing, after: float) -> Iterator[float]:
    """All slots after a moment, in order.

    Raises:
        ConfigurationError: cron is needed and can't be read here.
    """
    if timing.cron is not None:
        return _cron(timing.cron, timing.tz, after)
    if timing.every is not None:
        return _interval(timing.every, timing.start, after)
    return iter([timing.at] if timing.at is not None and timing.at > after else [])


def first_after(timing: Timing, after: float) -> float | None:
    """The first slot after a moment, None if there is none any more."""
    return next(slots(timing, after), None)


def come(schedule: Schedule, now: float) -> tuple[list[float], int, float | None]:
    """The slots of a schedule that have come: those to deal with, how many more are missed, and the one after.

    At most SLOTS_MAX at a time are looked at; what is left has come, too, and is found by asking again.
    """
    first, timing = schedule.next, schedule.timing
    oldest = now - max(schedule.catch_up, LATE_MAX)
    missed = 0
    if first is None:
        return [], 0, None
    if timing.every is not None and first < oldest - timing.jitter:  # else a year of seconds would be counted
        last_of_them = math.nextafter(oldest - timing.jitter, -math.inf)
        missed, first = _jump(timing.every, timing.start, first, last_of_them)
    found: list[float] = []
    for number, slot in enumerate(itertools.chain([first], slots(timing, first))):
        at = fires_at(schedule, slot)
        if at > now or number == SLOTS_MAX:
            return found, missed, slot
        if at < oldest:
            missed += 1
        else:
            found.append(slot)
    return found, missed, None


def shown(schedule: Schedule, limit: int) -> list[float]:
    """The next slots of a schedule, for people; none if they can't be computed here."""
    if schedule.next is None or schedule.paused:
        return []
    try:
        later = slots(schedule.timing, schedule.next)
    except ConfigurationError:
        return [schedule.next]
    return [schedule.next, *itertools.islice(later, limit - 1)]


def _jump(every: float, start: float, first: float, until: float) -> tuple[int, float]:
    """How many slots lie from `first` to `until`, and the slot after those."""
    after = next(_interval(every, start, until))
    return round((after - first) / every), after


def check(timing: Timing, now: float) -> None:
    """Raises ConfigurationError, which says what is wrong with it."""
    first_after(timing, now)
    if timing.every is not None and not EVERY_MIN <= timing.every < math.inf:
        msg = f"every={timing.every!r}: a schedule's interval is at least {EVERY_MIN} seconds"
        raise ConfigurationError(msg)


def _interval(every: float, start: float, after: float) -> Iterator[float]:
    number = max(1, math.floor((after - start) / every))
    while True:
        slot = round(start + number * every, 6)  # no digits that differ from one computation to the next
        if slot > after:
            yield slot
        number += 1


def _cron(expression: str, tz: str, after: float) -> Iterator[float]:
    moments = _moments(expression, tz, after)  # not within the generator: what is wrong shows at once
    return _increasing(moments, after)


def _moments(expression: str, tz: str, after: float) -> Iterator[datetime]:
    cronsim = _cronsim()
    try:
        zone = UTC if tz == "UTC" else zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        msg = (
            f"tz={tz!r} is no time zone this system knows: give a name such as Europe/Berlin. On systems without "
            "a database of time zones (Windows, slim containers), `pip install tzdata` brings one"
        )
        raise ConfigurationError(msg) from None
    try:
        moments: Iterator[datetime] = cronsim.CronSim(expression, datetime.fromtimestamp(after, zone))
    except cronsim.CronSimError as error:
        msg = (
            f"cron={expression!r} can't be read: {error}. It has five fields (minute, hour, day of month, month, day "
            'of week), such as "30 2 * * *", or six, with seconds first'
        )
        raise ConfigurationError(msg) from None
    return moments


def _increasing(moments: Iterator[datetime], after: float) -> Iterator[float]:
    """Each instant once, and none twice where the clock shows a time twice."""
    while True:
        try:
            moment = next(moments)
        except (StopIteration, OverflowError, ValueError):  # never again, or not before the end of calendars
            return
        slot = moment.timestamp()
        if slot > after:
            after = slot
            yield slot


def _cronsim() -> Any:
    try:
        return importlib.import_module("cronsim")
    except ImportError:
        msg = (
            "schedules with cron= need the package cronsim: pip install 'perdure[schedules]' wherever a worker or "
            "a client uses them. every= and at= work without it"
        )
        raise ConfigurationError(msg) from None
