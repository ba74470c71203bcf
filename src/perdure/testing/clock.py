"""The clock of a test: it stands still until somebody sets it forward."""

from __future__ import annotations

import asyncio
import heapq
import time


class TestClock:
    """Wall-clock seconds, which pass only when told to; or those of the real clock.

    Args:
        now: what it shows at first; None = the real time, in whole seconds.
        real: it is the real clock.
    """

    __test__ = False

    def __init__(self, now: float | None = None, *, real: bool = False) -> None:
        self.real = real
        self._now = float(int(time.time())) if now is None else now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def now(self) -> float:
        """What it shows."""
        return time.time() if self.real else self._now

    def set(self, now: float) -> None:
        """Set it forward, and wake who sleeps until then."""
        self._now = max(now, self._now)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds have passed by this clock."""
        if self.real:
            await asyncio.sleep(seconds)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._number, waiter))
        await waiter

    def next_due(self) -> float | None:
        """When the next sleeper wakes."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None
