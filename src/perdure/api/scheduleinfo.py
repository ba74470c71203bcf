"""A schedule as its users see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from perdure.core.schedules import Overlap, Schedule
from perdure.runtime import slots

#: How many of its next slots `info()` tells.
NEXT_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A run that a schedule has started.

    Attributes:
        id: the run's id.
        at: when it was started.
        slot: for which slot; None if it was triggered by hand.
    """

    id: str
    at: datetime
    slot: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule at one moment.

    Attributes:
        cron, tz, every, at: its timing; one of `cron`, `every` and `at` is given.
        next: its next slots, five at most; none if there will be none, or while it is paused.
        recent: the runs it started last, newest first.
        running: ids of runs that later slots take into account; some may have ended just now.
        buffered: slots that wait their turn, those of backfills included.
        fired: how many runs it has started.
        skipped: how many slots had none because an earlier slot's run was going.
        missed: how many slots came to light later than `catch_up`, as no worker was up.
    """

    name: str
    workflow: str
    queue: str
    cron: str | None
    tz: str
    every: timedelta | None
    at: datetime | None
    jitter: timedelta
    overlap: Overlap
    catch_up: timedelta
    created_at: datetime
    paused: bool
    reason: str | None
    next: tuple[datetime, ...]
    recent: tuple[ScheduledRun, ...]
    running: tuple[str, ...]
    buffered: tuple[datetime, ...]
    fired: int
    skipped: int
    missed: int


def info_of(schedule: Schedule, now: float) -> ScheduleInfo:
    """From what the store keeps to what users see."""
    timing = schedule.timing
    return ScheduleInfo(
        name=schedule.name,
        workflow=schedule.workflow,
        queue=schedule.queue,
        cron=timing.cron,
        tz=timing.tz,
        every=None if timing.every is None else timedelta(seconds=timing.every),
        at=None if timing.at is None else _shown(timing.at),
        jitter=timedelta(seconds=timing.jitter),
        overlap=schedule.overlap,
        catch_up=timedelta(seconds=schedule.catch_up),
        created_at=_shown(schedule.created_at),
        paused=schedule.paused,
        reason=schedule.reason,
        next=tuple(map(_shown, slots.shown(schedule, NEXT_SHOWN))),
        recent=tuple(
            ScheduledRun(item.run, _shown(item.at), None if item.slot is None else _shown(item.slot))
            for item in schedule.recent
        ),
        running=schedule.running,
        buffered=tuple(map(_shown, (*schedule.buffered, *schedule.backlog))),
        fired=schedule.fired,
        skipped=schedule.skipped,
        missed=schedule.missed,
    )


def _shown(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
