"""Schedules: what a schedule is, and what becomes of its slots. Pure; slots are computed elsewhere.

A *slot* is a moment at which a schedule is to start a run, in wall-clock seconds. `settle` takes the slots that
have come, and which of the runs started before are still going, and returns the schedule as it stands after
that, with the runs to start and to cancel. The store writes all of it in one transaction, or nothing: so each
slot is dealt with exactly once, whoever computes it, and however often.

A run's id is made of the schedule's name and the slot, so that even a slot which is asked for again (by a
backfill) starts nothing twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from perdure.core.namespaces import short

#: Slots that wait for a run to end, at most; what comes on top is skipped.
BUFFER_MAX = 1000

#: So many of the runs it started a schedule remembers.
RECENT_MAX = 20


class Overlap(StrEnum):
    """What happens to a slot that comes while the run of an earlier one is still going."""

    SKIP = "skip"  #: nothing is started for it
    BUFFER_ONE = "buffer_one"  #: one slot waits for the run's end, further ones are skipped
    BUFFER_ALL = "buffer_all"  #: every slot waits its turn
    ALLOW = "allow"  #: its run is started beside the other
    CANCEL_OTHER = "cancel_other"  #: the run is cancelled; the slot's own starts when that has ended


class Timing(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a schedule's slots are: by exactly one of `cron`, `every` and `at`.

    Attributes:
        cron: a cron expression, read in the time zone `tz`.
        every: seconds from slot to slot; the first is at `start + every`.
        at: the only slot.
        jitter: a slot's run starts up to so many seconds after the slot.
    """

    cron: str | None = None
    tz: str = "UTC"
    every: float | None = None
    start: float = 0.0
    at: float | None = None
    jitter: float = 0.0


class Fired(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that a schedule has started: when, and for which slot. None: it was triggered by hand."""

    run: str
    at: float
    slot: float | None = None


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """All there is of a schedule, as the store keeps it.

    Attributes:
        input: the encoded arguments of its runs.
        catch_up: slots that come to light later than so many seconds after their time are missed.
        next: the first slot that isn't dealt with, None if there will be none.
        running: ids of the runs it started that may be going still (none is kept with overlap "allow").
        buffered: slots that wait for those to end.
        backlog: slots of a backfill that wait their turn.
        fired, skipped, missed: how many runs it has started, how many slots overlap has cost, and how many
            came to light too late.
        recent: the runs it started last, newest first.
    """

    name: str
    timing: Timing
    workflow: str
    input: bytes
    queue: str
    overlap: Overlap
    catch_up: float
    created_at: float
    next: float | None
    paused: bool = False
    reason: str | None = None
    running: tuple[str, ...] = ()
    buffered: tuple[float, ...] = ()
    backlog: tuple[float, ...] = ()
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    recent: tuple[Fired, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """What becomes of slots.

    Attributes:
        start: slots to start runs for now.
        buffered, backlog: what waits afterwards.
        skipped: how many slots will never have a run.
        cancel: the runs that are going are to be cancelled.
    """

    start: tuple[float, ...]
    buffered: tuple[float, ...]
    backlog: tuple[float, ...]
    skipped: int
    cancel: bool


class Settled(msgspec.Struct, frozen=True):
    """A schedule after its slots were dealt with; (run id, slot) of the runs to start; ids of those to cancel."""

    schedule: Schedule
    start: tuple[tuple[str, float], ...]
    cancel: tuple[str, ...]


def decide(
    overlap: Overlap,
    due: Sequence[float],
    *,
    busy: bool,
    buffered: Sequence[float] = (),
    backlog: Sequence[float] = (),
) -> Decision:
    """What to do with the slots that have come.

    Args:
        due: those that have come now, in order.
        busy: a run of an earlier slot is still going.
        buffered: slots that came before and wait for it to end.
        backlog: slots of a backfill; they are no hurry, and come after all others.
    """
    if overlap is Overlap.ALLOW:
        return Decision((*buffered, *due, *backlog), (), (), 0, cancel=False)
    waiting, start, skipped, cancel = list(buffered), list[float](), 0, False
    if waiting and not busy:
        start.append(waiting.pop(0))
        busy = True
    if overlap is Overlap.CANCEL_OTHER and due:
        skipped += len(due) - 1  # each would be cancelled by the next at once
        due = due[-1:]
    for slot in due:
        if not busy:
            start.append(slot)
            busy = True
        elif overlap is Overlap.CANCEL_OTHER:
            skipped += len(waiting) + len(start)
            cancel, waiting, start = not start, [] if start else [slot], [slot] if start else []
        elif len(waiting) < {Overlap.BUFFER_ONE: 1, Overlap.BUFFER_ALL: BUFFER_MAX}.get(overlap, 0):
            waiting.append(slot)
        else:
            skipped += 1
    later = list(backlog)
    if later and not busy:
        start.append(later.pop(0))
    return Decision(tuple(start), tuple(waiting), tuple(later), skipped, cancel)


def settle(
    schedule: Schedule,
    *,
    due: Sequence[float],
    missed: int,
    next_slot: float | None,
    live: Collection[str],
    now: float,
) -> Settled:
    """Deal with the slots that have come.

    Args:
        due: the slots to start runs for, as far as overlap allows.
        missed: how many more have come, too long ago.
        next_slot: the first slot after all of these.
        live: which of `schedule.running` haven't ended.
    """
    running = tuple(id for id in schedule.running if id in live)
    decision = decide(
        schedule.overlap,
        due,
        busy=bool(running),
        buffered=schedule.buffered,
        backlog=schedule.backlog,
    )
    start = tuple((slot_run_id(schedule.name, slot), slot) for slot in decision.start)
    after = msgspec.structs.replace(
        schedule,
        next=next_slot,
        running=running,
        buffered=decision.buffered,
        backlog=decision.backlog,
        skipped=schedule.skipped + decision.skipped,
        missed=schedule.missed + missed,
    )
    for id, slot in start:
        after = started(after, Fired(id, now, slot))
    return Settled(after, start, running if decision.cancel else ())


def started(schedule: Schedule, fired: Fired) -> Schedule:
    """The schedule after it has started a run."""
    tracked = schedule.overlap is not Overlap.ALLOW
    return msgspec.structs.replace(
        schedule,
        fired=schedule.fired + 1,
        recent=(fired, *schedule.recent)[:RECENT_MAX],
        running=(*schedule.running, fired.run) if tracked else schedule.running,
    )


def due_at(schedule: Schedule) -> float | None:
    """When somebody has to look at the schedule next, None if not by time."""
    if schedule.paused:
        return None
    if (schedule.buffered or schedule.backlog) and (
        not schedule.running or schedule.overlap is Overlap.ALLOW
    ):
        return 0.0
    return None if schedule.next is None else fires_at(schedule, schedule.next)


def waits_for_an_end(schedule: Schedule) -> bool:
    """Whether somebody has to look at it when the runs it started have ended."""
    return bool(not schedule.paused and schedule.running and (schedule.buffered or schedule.backlog))


def fires_at(schedule: Schedule, slot: float) -> float:
    """When a slot's run starts: at the slot, or later by its own part of the jitter, the same for everybody."""
    if not schedule.timing.jitter:
        return slot
    seed = f"{short(schedule.name)}\0{schedule.created_at!r}\0{slot!r}"  # the same wherever it is seen from
    digest = blake2b(seed.encode(), digest_size=8).digest()
    return slot + schedule.timing.jitter * (int.from_bytes(digest) / 2**64)


def slot_run_id(name: str, slot: float) -> str:
    """The id of the run that a slot starts.

    >>> slot_run_id("nightly", 1_700_000_000.0), slot_run_id("often", 1_700_000_000.25)
    ('nightly@2023-11-14T22:13:20Z', 'often@2023-11-14T22:13:20.250000Z')
    """
    moment = datetime.fromtimestamp(slot, UTC)
    return f"{name}@{moment.replace(tzinfo=None).isoformat()}Z"
