"""From what the user says of a schedule to what is kept of it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import msgspec

from perdure.api.call import Call, WorkflowCall
from perdure.core import bounds
from perdure.core.namespaces import is_reserved, refusal
from perdure.core.retry import seconds
from perdure.core.schedules import Overlap, Schedule, Timing
from perdure.errors import UsageError
from perdure.runtime import slots

#: Longest name of a schedule, in characters.
NAME_MAX = bounds.NAME_MAX


def check_name(name: str) -> None:
    """Raises UsageError for names that would make trouble in logs, shells and run ids."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = f"{name!r} can't name a schedule: a name has 1 to {NAME_MAX} printable characters"
        raise UsageError(msg)
    if is_reserved(name):
        raise UsageError(refusal(name, "the name of a schedule"))


def make_timing(
    cron: str | None,
    tz: str,
    every: float | timedelta | None,
    at: datetime | None,
    jitter: float,
    now: float,
) -> Timing:
    """From what the user gives to a timing whose intervals begin now.

    Raises:
        UsageError: it isn't exactly one of the three.
    """
    if [cron, every, at].count(None) != 2:
        msg = "a schedule has exactly one of cron=, every= and at="
        raise UsageError(msg)
    return Timing(
        cron=cron,
        tz=tz,
        every=None if every is None else seconds(every, "every"),
        start=0.0 if every is None else _start(seconds(every, "every"), now),
        at=None if at is None else moment_of(at, "at"),
        jitter=jitter,
    )


def _start(every: float, now: float) -> float:
    """Where intervals begin: at whole seconds, if that makes no odds, so that slots are easy to read."""
    return float(math.floor(now)) if every >= 1 else round(now, 3)


def with_timing(schedule: Schedule, timing: Timing, now: float) -> Schedule:
    """The schedule with another timing from now on. The same one leaves its slots as they are."""
    if timing.every is not None and timing.every == schedule.timing.every:
        timing = msgspec.structs.replace(timing, start=schedule.timing.start)
    if timing == schedule.timing:
        return schedule
    slots.check(timing, now)
    same_slots = msgspec.structs.replace(timing, jitter=schedule.timing.jitter) == schedule.timing
    first = schedule.next if same_slots else slots.first_after(timing, now)
    return msgspec.structs.replace(schedule, timing=timing, next=first)


def given(
    max_payload: int,
    *,
    call: Call[Any] | None,
    overlap: str | None,
    catch_up: float | timedelta | None,
    queue: str | None,
) -> dict[str, Any]:
    """Fields of Schedule, of what is given."""
    fields: dict[str, Any] = {}
    if call is not None:
        call.mark_used()
        if not isinstance(call, WorkflowCall):
            msg = f"a schedule starts the call of a workflow, as in report('daily'); got {call!r}"
            raise UsageError(msg)
        workflow = call
        fields |= {"workflow": workflow.name, "input": workflow.input(max_payload)}
    if overlap is not None:
        if overlap not in list(Overlap):
            msg = f"overlap={overlap!r} must be one of {', '.join(Overlap)}"
            raise UsageError(msg)
        fields["overlap"] = Overlap(overlap)
    if catch_up is not None:
        fields["catch_up"] = seconds(catch_up, "catch_up")
    if queue is not None:
        fields["queue"] = queue
    return fields


def definition(schedule: Schedule) -> tuple[Any, ...]:
    """What makes two schedules the same to their user."""
    timing = msgspec.structs.replace(schedule.timing, start=0.0)
    return (timing, schedule.workflow, schedule.input, schedule.queue, schedule.overlap, schedule.catch_up)


def moment_of(moment: datetime, what: str) -> float:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        msg = f"{what}={moment!r}: give a moment with a time zone, such as datetime(..., tzinfo=UTC)"
        raise UsageError(msg)
    return moment.timestamp()
