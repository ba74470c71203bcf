"""Schedules from outside: made, looked at, held, moved and removed through `engine.schedules`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from perdure.api.call import Call
from perdure.api.connection import Connection
from perdure.api.handle import Handle
from perdure.api.scheduleinfo import ScheduleInfo, info_of
from perdure.api.scheduling import check_name, definition, given, make_timing, moment_of, with_timing
from perdure.core.retry import seconds
from perdure.core.schedules import BUFFER_MAX, Fired, Schedule, slot_run_id, started
from perdure.errors import ScheduleConflictError, UnknownScheduleError, UsageError
from perdure.runtime import slots
from perdure.runtime.scheduler import row_of, schedule_in, scheduled_run
from perdure.storage.chance import chance
from perdure.storage.schedules import ScheduleRow

OverlapName = Literal["skip", "buffer_one", "buffer_all", "allow", "cancel_other"]

#: Versions begin in the first half of the 63-bit numbers, and grow from there.
_VERSION_BITS = 62


class ScheduleHandle:
    """One schedule, existing or not. From `engine.schedules.get(name)`.

    Attributes:
        name: the schedule's name.
    """

    def __init__(self, connection: Connection, name: str, max_payload: int) -> None:
        self._connection = connection
        self._max_payload = max_payload
        self.name = name

    async def info(self) -> ScheduleInfo:
        """All about the schedule at this moment.

        Raises:
            UnknownScheduleError: no schedule has this name.
        """
        return info_of(schedule_in(await self._row()), self._connection.clock())

    async def pause(self, reason: str | None = None) -> None:
        """Let it start nothing until it is resumed. Runs that are going are left alone.

        Raises:
            UnknownScheduleError: no schedule has this name.
        """
        await self._change(
            lambda schedule, now: msgspec.structs.replace(schedule, paused=True, reason=reason)
        )

    async def resume(self) -> None:
        """Go on after a pause, with the next slot. Slots that came during the pause are passed over.

        Raises:
            UnknownScheduleError: no schedule has this name.
        """

        def resumed(schedule: Schedule, now: float) -> Schedule:
            if not schedule.paused:
                return schedule
            first = schedule.next
            if first is not None and first <= now:
                first = slots.first_after(schedule.timing, now)
            return msgspec.structs.replace(schedule, paused=False, reason=None, next=first)

        await self._change(resumed)

    async def trigger(self) -> Handle[Any]:
        """Start a run now, whatever the overlap policy says, also of a paused schedule.

        Raises:
            UnknownScheduleError: no schedule has this name.
        """
        made: list[str] = []

        def triggered(schedule: Schedule, now: float) -> Schedule:
            made[:] = [f"{slot_run_id(schedule.name, now)}-by-hand-{chance.getrandbits(32):08x}"]
            return started(schedule, Fired(made[0], now))

        await self._change(triggered, starts=made)
        return Handle(self._connection, made[0])

    async def backfill(self, start: datetime, end: datetime) -> int:
        """Start runs for slots of the past that had none: one after the other, or all at once with overlap
        "allow". Slots that had a run keep it, since the run's id is made of the slot.

        Args:
            start, end: the first and the last moment of the time to fill, with time zones; `end` isn't in
                the future.

        Returns:
            How many slots there are in that time.

        Raises:
            UnknownScheduleError: no schedule has this name.
            UsageError: these are no such moments, or there are more than a thousand slots between them.
        """
        first, last = moment_of(start, "start"), moment_of(end, "end")
        count = 0

        def filled(schedule: Schedule, now: float) -> Schedule:
            nonlocal count
            if not first <= last <= now:
                msg = f"backfill({start}, {end}): it goes from an earlier to a later moment, neither in the future"
                raise UsageError(msg)
            found: list[float] = []
            for slot in slots.slots(schedule.timing, first - 1e-6):
                if slot > last:
                    break
                found.append(slot)
                if len(found) + len(schedule.backlog) > BUFFER_MAX:
                    msg = (
                        f"schedule {schedule.name!r} has more than {BUFFER_MAX} slots to fill at once: backfill a "
                        "shorter time, and the next when that is done"
                    )
                    raise UsageError(msg)
            count = len(found)
            return msgspec.structs.replace(schedule, backlog=(*schedule.backlog, *found))

        await self._change(filled)
        return count

    async def update(
        self,
        *,
        call: Call[Any] | None = None,
        cron: str | None = None,
        tz: str | None = None,
        every: float | timedelta | None = None,
        at: datetime | None = None,
        jitter: float | timedelta | None = None,
        overlap: OverlapName | None = None,
        catch_up: float | timedelta | None = None,
        queue: str | None = None,
    ) -> None:
        """Change what is given, and leave the rest. Arguments as for `engine.schedules.create`.

        A new timing holds from now on; no slot is dealt with twice.

        Raises:
            UnknownScheduleError: no schedule has this name.
            ConfigurationError, NotSerializableError: what is given can't be used.
        """
        fields = given(self._max_payload, call=call, overlap=overlap, catch_up=catch_up, queue=queue)

        def updated(schedule: Schedule, now: float) -> Schedule:
            timing = schedule.timing
            if cron is not None or every is not None or at is not None:
                timing = make_timing(cron, tz or timing.tz, every, at, timing.jitter, now)
            if tz is not None:
                timing = msgspec.structs.replace(timing, tz=tz)
            if jitter is not None:
                timing = msgspec.structs.replace(timing, jitter=seconds(jitter, "jitter"))
            return with_timing(msgspec.structs.replace(schedule, **fields), timing, now)

        await self._change(updated)

    async def delete(self) -> None:
        """Remove the schedule. The runs it has started stay and go on.

        Raises:
            UnknownScheduleError: no schedule has this name.
        """
        self._connection.check()
        if not await self._connection.store.schedules.delete(self.name):
            raise self._unknown()

    # -- the row ------------------------------------------------------------------------------------

    async def _row(self) -> ScheduleRow:
        self._connection.check()
        row = await self._connection.store.schedules.get(self.name)
        if row is None:
            raise self._unknown()
        return row

    async def _change(
        self, change: Callable[[Schedule, float], Schedule], starts: list[str] | None = None
    ) -> None:
        """Replace the schedule by what `change` makes of it; again, if somebody else was faster."""
        while True:
            row = await self._row()
            now = self._connection.clock()
            schedule = schedule_in(row)
            after = change(schedule, now)
            if after == schedule:
                return
            runs = [scheduled_run(schedule, id, None, now) for id in starts or ()]
            if await self._connection.store.schedules.change(row_of(after, row.version), runs=runs, now=now):
                break
        self._connection.nudge()
        if (worker := self._connection.worker) is not None:
            worker.scheduler.poke()

    def _unknown(self) -> UnknownScheduleError:
        return UnknownScheduleError(
            f"no schedule has the name {self.name!r} in this database: `perdure schedule ls` lists them"
        )

    def __repr__(self) -> str:
        return f"<schedule {self.name!r}>"


class Schedules:
    """What starts runs by itself: `engine.schedules`."""

    def __init__(self, connection: Connection, queue: str, max_payload: int) -> None:
        self._connection = connection
        self._queue = queue
        self._max_payload = max_payload

    async def create(
        self,
        name: str,
        call: Call[Any],
        *,
        cron: str | None = None,
        tz: str = "UTC",
        every: float | timedelta | None = None,
        at: datetime | None = None,
        jitter: float | timedelta = 0.0,
        overlap: OverlapName = "skip",
        catch_up: float | timedelta = timedelta(days=1),
        queue: str | None = None,
        paused: bool = False,
        if_exists: Literal["attach", "update", "fail"] = "attach",
    ) -> ScheduleHandle:
        """Let runs be started by the clock. Give exactly one of `cron`, `every` and `at`.

        Args:
            name: the schedule's name; the ids of its runs begin with it.
            call: the workflow to run, as in `report("daily")`; every run has these arguments.
            cron: when, as a cron expression of five fields, or six with seconds first.
            tz: the time zone in which `cron` is read, such as "Europe/Berlin".
            every: seconds from one run to the next; the first starts so long after now.
            at: once, at this moment, which has a time zone.
            jitter: each run starts up to so many seconds late, by an amount that is fixed for each slot.
            overlap: of a slot that comes while an earlier slot's run is going: "skip" it; let one wait ("buffer_one"),
                or all ("buffer_all"); "allow" its run beside the other; or cancel that one first ("cancel_other").
            catch_up: seconds after which a slot that no worker was up for gets no run any more.
            queue: where its runs go; the engine's first queue by default.
            paused: begin with a pause.
            if_exists: with a schedule of this name there already, "attach" leaves it alone if it is defined
                the same, and raises if not; "update" gives it this definition; "fail" raises.

        Raises:
            ConfigurationError: the timing can't be used, or the extra perdure[schedules] is missing.
            ScheduleConflictError: there is another schedule of this name, or any and if_exists="fail".
            NotSerializableError: the arguments can't be recorded.

        Example:
            >>> await engine.schedules.create("nightly", report(), cron="30 2 * * *")  # doctest: +SKIP
        """
        if isinstance(call, Call):
            call.mark_used()
        self._connection.check()
        check_name(name)
        if if_exists not in ("attach", "update", "fail"):
            msg = f'if_exists={if_exists!r} must be "attach", "update" or "fail"'
            raise UsageError(msg)
        now = self._connection.clock()
        timing = make_timing(cron, tz, every, at, seconds(jitter, "jitter"), now)
        fields = given(
            self._max_payload, call=call, overlap=overlap, catch_up=catch_up, queue=queue or self._queue
        )
        slots.check(timing, now)
        first = slots.first_after(timing, now) if at is None else timing.at
        schedule = Schedule(name=name, timing=timing, created_at=now, next=first, paused=paused, **fields)
        handle = ScheduleHandle(self._connection, name, self._max_payload)
        row = row_of(schedule, chance.getrandbits(_VERSION_BITS))
        if (taken := await self._connection.store.schedules.create(row)) is None:
            if (worker := self._connection.worker) is not None:
                worker.scheduler.poke()
        elif if_exists == "update":
            await handle._change(
                lambda old, now: with_timing(msgspec.structs.replace(old, **fields), timing, now)
            )
        else:
            _check_same(schedule_in(taken), schedule, if_exists)
        return handle

    def get(self, name: str) -> ScheduleHandle:
        """A handle to a schedule by its name, existing or not. Does no I/O."""
        return ScheduleHandle(self._connection, name, self._max_payload)

    async def list(self) -> list[ScheduleInfo]:
        """All schedules, by name."""
        self._connection.check()
        now = self._connection.clock()
        return [info_of(schedule_in(row), now) for row in await self._connection.store.schedules.all()]


def _check_same(there: Schedule, wanted: Schedule, if_exists: str) -> None:
    """Raises ScheduleConflictError, unless the one that is there will do."""
    if if_exists == "fail":
        msg = (
            f'there is a schedule {wanted.name!r} already, and if_exists="fail" was given: give this one another name, '
            'or if_exists="update" to change that one'
        )
        raise ScheduleConflictError(msg)
    if definition(there) != definition(wanted):
        msg = (
            f"there is a schedule {wanted.name!r} already, and it is defined otherwise: give this one another name, or "
            'if_exists="update" to change that one'
        )
        raise ScheduleConflictError(msg)
