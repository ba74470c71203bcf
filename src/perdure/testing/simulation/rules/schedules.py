"""What must hold of schedules."""

from __future__ import annotations

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.schedules import Overlap, Schedule
from perdure.storage.memory_run import Run
from perdure.testing.simulation.clocks import EPOCH
from perdure.testing.simulation.observer import Observer, Rule

_ROUNDING = 0.000_002
_LATE = 3.0  #: seconds by which a slot may be late when nothing goes wrong any more

_schedule = msgspec.json.Decoder(Schedule)


class Slots(Rule):
    """Of a schedule and its slots, which are counted here anew:

    - Each slot that has passed was dealt with once: it has exactly one run, or it waits its turn, or it was skipped or
      missed. What the schedule says of how many there were of each is so; nothing is missed within `catch_up`.
    - Skipped are only slots that the overlap policy lets go: with "allow" and "buffer_all" none, with "skip" only while
      a run was live that was started before.
    - No slot has a second run, and none has one before its time, if clocks are right.
    - Where the policy lets only one run go on, no two of a schedule are live.
    - When nothing goes wrong any more, slots are dealt with within seconds, if clocks are right.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._slots: dict[str, dict[float, str]] = {}  # runs, by schedule and slot
        self._before: dict[
            str, tuple[int, Schedule, bool]
        ] = {}  # version, the schedule, whether a run was live
        self.held: set[str] = (
            set()
        )  #: schedules that were paused for a while: slots of that time are passed over

    def created(self, run: Run) -> None:
        started = decode_event(run.events[0])
        if not isinstance(started, ev.RunStarted) or started.schedule is None or run.generation > 1:
            return
        name, slot = started.schedule, started.slot
        assert slot is not None, "nobody triggers a schedule here"
        self._observer.counts["slots fired"] += 1
        slots = self._slots.setdefault(name, {})
        if slot in slots:
            self._observer.wrong(f"schedule {name}: the slot {slot - EPOCH} has {slots[slot]} and {run.id}")
        slots[slot] = run.id
        if self._observer.clocks_are_right and slot > self._observer.now + _ROUNDING:
            self._observer.wrong(f"schedule {name}: {run.id} was started before its time")

    def carried_out(self, verb: str) -> None:
        for name, row in self._observer.database.schedules.items():
            before = self._before.get(name)
            if before is not None and before[0] == row.version:
                continue
            schedule = _schedule.decode(row.data)
            live = [id for id in self._slots.get(name, {}).values() if self._is_live(id)]
            if len(live) > 1 and schedule.overlap is not Overlap.ALLOW:
                self._observer.wrong(f"schedule {name}: {live} are live together")
            if before is not None:
                self._compare(before[1], schedule, was_live=before[2])
            if schedule.fired != len(self._slots.get(name, {})):
                self._observer.wrong(
                    f"schedule {name} says that it has fired {schedule.fired} times, of {len(self._slots[name])}"
                )
            self._before[name] = row.version, schedule, bool(live)

    def _compare(self, before: Schedule, after: Schedule, *, was_live: bool) -> None:
        skipped = after.skipped - before.skipped
        self._observer.counts["slots skipped"] += skipped
        policy = after.overlap
        if skipped and policy in (Overlap.ALLOW, Overlap.BUFFER_ALL):
            self._observer.wrong(f"schedule {after.name}: {policy.value} has skipped {skipped} slots")
        if skipped and policy is Overlap.SKIP and not was_live and after.fired == before.fired:
            self._observer.wrong(
                f"schedule {after.name}: {skipped} slots were skipped, and no run was going on"
            )

    def _is_live(self, id: str) -> bool:
        run = self._observer.database.find_id(id)
        return run is not None and not run.ended

    def ended(self, name: str) -> None:
        """Somebody was told that the schedule is paused, for good; nothing has gone wrong for a while."""
        schedule = _schedule.decode(self._observer.database.schedules[name].data)
        if not self._observer.clocks_are_right:
            return
        if schedule.next is None or schedule.next < self._observer.now - _LATE - schedule.timing.jitter:
            self._observer.wrong(
                f"schedule {name}: the slot {(schedule.next or 0.0) - EPOCH} isn't dealt with yet"
            )

    def look_back(self) -> None:
        for name, (_, schedule, _) in self._before.items():
            started = len(self._slots.get(name, {}))
            waiting = len(schedule.buffered)
            dealt = started + schedule.skipped + schedule.missed + waiting
            passed = _passed(schedule)
            told = f"{started} started, {schedule.skipped} skipped, {schedule.missed} missed, {waiting} wait"
            if dealt > passed or (dealt < passed and name not in self.held):
                self._observer.wrong(f"schedule {name}: {passed} slots have passed, and {told}")
            if schedule.missed:
                self._observer.wrong(f"schedule {name}: {told}, within the time for catching up")


def _passed(schedule: Schedule) -> int:
    """How many slots there were before the next one."""
    timing, last = schedule.timing, schedule.next
    assert last is not None, "it has slots for ever"
    if timing.every is not None:
        return round((last - timing.start) / timing.every) - 1
    assert timing.cron is not None
    step = int(timing.cron.split()[0].removeprefix("*/"))
    return int(last // step - schedule.created_at // step) - 1
