"""Which runs are in memory, and what the store is told about those that stay there a while.

A run that only waits leaves memory after `evict_after`, or earlier when room is needed: the one idle longest
goes first. What it waits for by the clock becomes its wake-up time in the store; replay brings it back.

What takes longer than 100 ms (a step, a timer) is written down as a note, so that people see it from
outside, and the run's status follows. Shorter ones cost no write at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from heapq import nsmallest
from math import inf

from perdure.core import events as ev
from perdure.core.commands import Operation, RunStep
from perdure.runtime.attempt import Attempt
from perdure.runtime.driver import Driver
from perdure.runtime.notes import wait_notes

#: What is shorter than this leaves no note, in seconds.
NOTE_AFTER = 0.1

#: A run whose next wake-up is nearer than this isn't worth evicting, in seconds.
EVICT_MARGIN = 1.0

#: Runs that wake up within so many seconds are the last that have to make room.
SOON = 30.0


class Residency:
    """The drivers of one worker, by run key.

    Args:
        executing: the step attempts that execute right now.
        evict_after: seconds of idleness after which a run leaves memory.
        max_resident: how many runs may be in memory, besides errands.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        executing: Collection[Attempt],
        *,
        evict_after: float,
        max_resident: int,
    ) -> None:
        self.drivers: dict[int, Driver] = {}
        self._loop = loop
        self._clock = clock
        self._evict_after = evict_after
        self._max_resident = max_resident
        self._executing = executing
        self._watched: deque[tuple[float, Driver, Operation]] = deque()
        self._notes = loop.call_later(NOTE_AFTER, self._write_notes)
        self._evictions = loop.call_later(self._interval(), self._evict_idle)

    # -- room ---------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more runs fit in memory.

        Errands don't count: how many there are is bounded by how many execute. Did they take the place of runs, those
        that wait for them couldn't come in, not even to give them up.
        """
        room = self._max_resident - len(self.drivers)
        if room <= 0:
            room += sum(driver.carries_errand for driver in self.drivers.values())
        return max(0, room)

    def make_room(self, runs: int) -> None:
        """Evict so many runs, a tenth of all at most: those idle longest, and only if need be such as soon go on."""
        now = self._clock()
        idle: list[tuple[float, float, int, Driver]] = []
        for driver in self.drivers.values():
            due = driver.work.next_due()
            # what is due goes on in a moment; evicted now, it would be claimed and evicted again, for ever
            if driver.idle() and (due is None or due > now):
                latest_first = -inf if due is None or due > now + SOON else -due
                idle.append((latest_first, driver.last_active, driver.number, driver))
        for *_, driver in nsmallest(min(runs, max(1, self._max_resident // 10)), idle):
            self._evict(driver)

    def _interval(self) -> float:
        return min(5.0, max(0.05, self._evict_after / 8))

    def _evict_idle(self) -> None:
        now = self._clock()
        oldest = now - self._evict_after
        for driver in list(self.drivers.values()):
            if driver.last_active <= oldest and driver.idle():
                due = driver.work.next_due()
                if due is None or due - now > EVICT_MARGIN:
                    self._evict(driver)
        self._evictions = self._loop.call_later(self._interval(), self._evict_idle)

    def _evict(self, driver: Driver) -> None:
        driver.release(driver.work.next_due())

    # -- notes --------------------------------------------------------------------------------------

    def watch(self, driver: Driver, operation: Operation) -> None:
        """Let the store know what the run waits for, if this is still open in 100 ms."""
        self._watched.append((self._loop.time() + NOTE_AFTER, driver, operation))

    def _write_notes(self) -> None:
        """Every 100 ms: note the steps and timers that are older than that and have no note yet."""
        self._notes = self._loop.call_later(NOTE_AFTER, self._write_notes)
        self.note(NOTE_AFTER)

    def note(self, after: float) -> None:
        """Write down what has lasted for so many seconds and has no note yet."""
        lasting: dict[Driver, dict[str, Operation]] = {}  # what executes may be watched, too
        oldest = self._clock() - after
        for attempt in self._executing:
            if attempt.started_at <= oldest and not (
                attempt.operation.noted or attempt.dropped or attempt.abandoned or attempt.beginning
            ):
                driver = attempt.run
                assert isinstance(driver, Driver)
                lasting.setdefault(driver, {})[attempt.operation.id] = attempt.operation
        now = self._loop.time() + NOTE_AFTER - after
        while self._watched and self._watched[0][0] <= now:
            _, driver, operation = self._watched.popleft()
            if not driver.gone and driver.machine.operations.get(operation.id) is operation:
                lasting.setdefault(driver, {})[operation.id] = operation
        for driver, operations in lasting.items():
            if not driver.busy():
                if not driver.work.executing:
                    driver.machine.loop.doze()
                driver.note(self._notes_of(driver, operations.values()), driver.work.standing())
            else:  # the log is being written: look again when that is done
                for operation in operations.values():
                    self.watch(driver, operation)

    def _notes_of(self, driver: Driver, operations: Collection[Operation]) -> list[ev.Event]:
        now = self._clock()
        notes: list[ev.Event] = []
        for operation in operations:
            if isinstance(operation, RunStep) and driver.work.notable(operation):
                notes.append(ev.StepStarted(at=now, step=operation.id, attempt=operation.failed_attempts + 1))
            else:
                notes += wait_notes([operation], now)
        return notes

    def close(self) -> None:
        self._evictions.cancel()
        self._notes.cancel()
        self._watched.clear()
