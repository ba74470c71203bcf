"""Alarms on the wall clock, which never ring early.

One heap for all runs of a worker, and one `call_later` of the real loop for its head. The real loop counts
monotonic time and may wake a little before the wall clock shows the due time; an alarm looks at the wall
clock itself and goes back to sleep in that case. Long waits are cut into naps, so that a wall clock that
was set forward is noticed.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("perdure.timers")

#: Longest single nap in seconds: how late an alarm can be after the wall clock was set forward.
NAP_MAX = 10.0

#: Shortest nap, in seconds: below it `call_later` would only spin.
NAP_MIN = 0.0005

#: So many cancelled alarms may stay in the heap before it is looked through.
HEAP_SLACK = 256


class Alarm:
    """Something that will happen at `due`, unless cancelled. It is what the heap is made of.

    Attributes:
        action: called with `args`; None once it was, or was cancelled.
    """

    __slots__ = ("_number", "_timers", "action", "args", "due")

    def __init__(
        self, timers: Timers, due: float, action: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        self._timers = timers
        self._number = 0
        self.due = due
        self.action: Callable[..., None] | None = action
        self.args = args

    def __lt__(self, other: Alarm) -> bool:
        due, others = self.due, other.due
        return due < others or (due == others and self._number < other._number)

    def ring(self) -> None:
        action, args = self.action, self.args
        self.action, self.args = None, ()  # cancelling it from here on is nothing
        if action is not None:
            action(*args)

    def cancel(self) -> None:
        if self.action is not None:
            self.action, self.args = None, ()
            self._timers.forgotten()


class Timers:
    """The alarms of one worker.

    Args:
        clock: wall-clock seconds since the epoch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[Alarm] = []
        self._number = 0
        self._cancelled = 0  # alarms in the heap that won't ring
        self._nap: asyncio.TimerHandle | None = None
        self._nap_until = float("inf")

    def at(self, due: float, action: Callable[..., None], *args: Any) -> Alarm:
        """Call `action(*args)` once the wall clock shows `due`; those of one moment in the order asked."""
        alarm = Alarm(self, due, action, args)
        self.set(alarm)
        return alarm

    def set(self, alarm: Alarm) -> None:
        """Let an alarm ring at its time."""
        self._number += 1
        alarm._number = self._number
        heapq.heappush(self._heap, alarm)
        if alarm.due < self._nap_until:
            self._sleep()

    def forgotten(self) -> None:
        """An alarm was cancelled. When most of the heap is of that kind, what is left moves into a new one:
        a run that left memory until next year mustn't leave its alarm behind."""
        self._cancelled += 1
        if self._cancelled > HEAP_SLACK and self._cancelled * 2 > len(self._heap):
            self._heap = [alarm for alarm in self._heap if alarm.action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """When the next alarm rings, None if there is none."""
        self._forget_cancelled()
        return self._heap[0].due if self._heap else None

    def look(self) -> None:
        """The clock was set: ring now what is due by it."""
        if self._nap is not None:
            self._nap.cancel()
        self._ring()

    def close(self) -> None:
        """Forget every alarm."""
        self._heap.clear()
        if self._nap is not None:
            self._nap.cancel()
        self._nap = None
        self._nap_until = float("-inf")  # later alarms never ring

    def _sleep(self) -> None:
        if self._nap is not None:
            self._nap.cancel()
            self._nap = None
        self._forget_cancelled()
        if not self._heap:
            self._nap_until = float("inf")
            return
        self._nap_until = self._heap[0].due
        nap = min(NAP_MAX, max(NAP_MIN, self._nap_until - self._clock()))
        self._nap = self._loop.call_later(nap, self._ring)

    def _forget_cancelled(self) -> None:
        while self._heap and self._heap[0].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1

    def _ring(self) -> None:
        self._nap = None
        now = self._clock()
        heap = self._heap
        while heap and heap[0].due <= now:
            alarm = heapq.heappop(heap)
            if alarm.action is None:
                self._cancelled -= 1
                continue
            try:
                alarm.ring()
            except Exception:  # the engine's own: the other alarms mustn't suffer from it
                logger.critical("an alarm made the engine fail", exc_info=True)
            heap = self._heap
        if self._nap is None:
            self._sleep()
