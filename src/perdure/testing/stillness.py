"""Waits until nothing can happen any more unless time passes or somebody outside acts.

Nothing can happen when the event loop has no callback that is ready, no step executes, and nothing is on its way to the
store or planned for a moment of the real clock. What sleeps by the test's clock doesn't count: that it is asleep is
what one waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from perdure.runtime.worker import Worker

#: Turns of an event loop that doesn't show what is ready: so many in a row with nothing to see count as stillness.
_BLIND_TURNS = 60

#: Seconds between looks while something executes by the real clock.
_PAUSE = 0.001

_spinning: dict[int, int] = {}  # by event loop: how many tasks look whether it is still


class Stillness:
    """Looks whether an environment is still.

    Args:
        worker: the worker that drives its runs; None while there is none.
        asleep: how many executing steps sleep by the test's clock.
    """

    def __init__(self, worker: Callable[[], Worker | None], asleep: Callable[[], int]) -> None:
        self._worker = worker
        self._asleep = asleep

    async def wait(self, patience: float, *, for_steps: bool = False) -> None:
        """Wait for it.

        Args:
            patience: seconds by the real clock.
            for_steps: steps, and what is being written, may take as long as they like.

        Raises:
            TimeoutError: something still goes on then.
        """
        loop = asyncio.get_running_loop()
        key = id(loop)
        deadline = time.monotonic() + patience
        ready: Any = getattr(loop, "_ready", None)
        turns = 0
        _spinning[key] = _spinning.get(key, 0) + 1
        try:
            while True:
                await asyncio.sleep(0)
                turns = turns + 1 if ready is None or len(ready) < _spinning[key] else 0
                if turns == 0:
                    going = (
                        "callbacks of the event loop, such as a task that waits by asyncio.sleep(0) in a loop"
                    )
                elif (told := self._goes_on()) is not None:
                    going, turns = told, 0
                    await asyncio.sleep(_PAUSE)
                    if for_steps:
                        deadline = time.monotonic() + patience
                elif ready is not None or turns > _BLIND_TURNS:
                    return
                else:
                    continue
                if time.monotonic() > deadline:
                    msg = f"after {patience:g} s there is still something going on: {going}"
                    raise TimeoutError(msg)
        finally:
            _spinning[key] -= 1
            if not _spinning[key]:
                del _spinning[key]

    def _goes_on(self) -> str | None:
        """What is going on that no callback shows; None if nothing is."""
        worker = self._worker()
        if worker is None:
            return "a worker is being replaced"
        steps = worker.steps
        if steps.occupied > self._asleep():
            names = sorted({attempt.operation.name for attempt in steps.executing})
            return f"steps execute ({', '.join(names) or 'some wait for their turn'})"
        for watch in (worker.scheduler, worker.distributor):
            if watch.planned:
                watch.poke()  # what it is going to look for in a moment, it may look for now
                return "a look at schedules and published events"
        journal = worker.journal
        if journal._pending or journal._in_flight or journal.trouble is not None:
            return "events are being written"
        if worker._background:
            return "the worker tells others something"
        return None
