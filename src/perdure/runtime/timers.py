"""Alarms on the wall clock, which never ring early.

One heap for all runs of a worker, and one `call_later` of the real loop for its head. The real loop counts
monotonic time and may wake a little before the wall clock shows the due time; an alarm looks at the wall
clock itself and goes back to sleep in that case. Long waits are cut into naps, so that a wall clock that
was set forward is noticed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

#: Longest single nap in seconds: how late an alarm can be after the wall clock was set forward.
NAP_MAX = 10.0

#: Shortest nap, in seconds: below it `call_later` would only spin.
NAP_MIN = 0.0005


class Alarm:
    """Something that will happen at `due`, unless cancelled."""

    __slots__ = ("action", "args", "due")

    def __init__(self, due: float, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.due = due
        self.action: Callable[..., None] | None = action
        self.args = args

    def cancel(self) -> None:
        self.action = None
        self.args = ()


class Timers:
    """The alarms of one worker.

    Args:
        clock: wall-clock seconds since the epoch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, Alarm]] = []
        self._number = 0
        self._nap: asyncio.TimerHandle | None = None
        self._nap_until = float("inf")

    def at(self, due: float, action: Callable[..., None], *args: Any) -> Alarm:
        """Call `action(*args)` once the wall clock shows `due`; those of one moment in the order asked."""
        alarm = Alarm(due, action, args)
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, alarm))
        if due < self._nap_until:
            self._sleep()
        return alarm

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
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        if not self._heap:
            self._nap_until = float("inf")
            return
        self._nap_until = self._heap[0][0]
        nap = min(NAP_MAX, max(NAP_MIN, self._nap_until - self._clock()))
        self._nap = self._loop.call_later(nap, self._ring)

    def _ring(self) -> None:
        self._nap = None
        now = self._clock()
        heap = self._heap
        while heap and heap[0][0] <= now:
            alarm = heapq.heappop(heap)[2]
            if alarm.action is not None:
                alarm.action(*alarm.args)
        if self._nap is None:
            self._sleep()
