"""Stopping in good order: what executes may finish, and everything else goes on elsewhere at once.

A worker that is told to stop begins nothing more. Runs of which no step executes are handed back right away, the others
as soon as theirs have ended; so a long step holds up its own run only. Meanwhile the worker keeps its lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from perdure.runtime.driver import Driver
from perdure.runtime.steps import StepExecutor

LOOK_EVERY = 0.05  #: seconds between looks at which runs have come to rest


async def drain(
    steps: StepExecutor, drivers: Mapping[int, Driver], clock: Callable[[], float], grace: float
) -> None:
    """Hand back runs as they come to rest, until no step executes.

    Args:
        drivers: the runs in memory; those that are handed back leave it.
        clock: wall-clock seconds.
        grace: seconds after which what still executes is left to the caller.
    """
    steps.begin_no_more()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    while steps.executing and (left := deadline - loop.time()) > 0:
        working = {attempt.run for attempt in steps.executing}
        for driver in [driver for driver in drivers.values() if driver not in working]:
            if not (driver.gone or driver.busy()):
                hand_back(driver, clock())
        futures = [attempt.future for attempt in steps.executing if attempt.future is not None]
        if futures:
            await asyncio.wait(futures, timeout=min(left, LOOK_EVERY))
        else:
            await asyncio.sleep(0)


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks, and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def hand_back(driver: Driver, now: float) -> None:
    """Leave a run to whoever takes it, at once if it has something to do."""
    driver.release(now if driver.work.unfinished(now) else driver.work.next_due())
