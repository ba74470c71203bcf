"""Lets the clock of an environment jump over waits while somebody waits for a result.

When nothing can happen unless time passes, it jumps to the next moment for which an alarm is set. When there is none,
nothing will ever come: after a while those who wait are told so, with what their run waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.core.why import Why
from perdure.errors import PerdureError, UsageError
from perdure.runtime.worker import Worker
from perdure.testing.clock import TestClock
from perdure.testing.stillness import Stillness

#: Real seconds between looks whether anybody waits.
_LOOK_EVERY = 0.001

#: So many jumps for one wait are taken for a run that never ends.
JUMPS_MAX = 100_000

#: Real seconds in which an event loop has to come to rest once.
RESTLESS = 10.0


class StuckError(AssertionError):
    """A result is waited for that can't come."""


class Skipper:
    """Moves the clock of an environment.

    Args:
        client: the engine through which results are waited for.
        worker: the worker that drives the runs; None while there is none.
        patience: real seconds without anything to come after which those who wait are told.
    """

    def __init__(
        self,
        client: Engine,
        clock: TestClock,
        stillness: Stillness,
        worker: Callable[[], Worker | None],
        patience: Callable[[], float],
    ) -> None:
        assert client._connection is not None
        self._client = client
        self._connection = client._connection
        self._clock = clock
        self._stillness = stillness
        self._worker = worker
        self._patience = patience
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Move it no more."""
        self._task.cancel()

    def _wanted(self) -> list[str]:
        """The ids of the runs for which somebody waits."""
        updates = self._connection.inquiry.updates.answers._waiters
        return [*self._connection.results._waiters, *(id for id, _ in updates)]

    async def _watch(self) -> None:
        while True:
            try:
                await self._skip()
            except TimeoutError as error:
                self._fail(self._wanted(), StuckError(f"time can't be skipped: {error}"))
            except Exception as error:  # noqa: BLE001 - else those who wait would wait for ever
                self._fail(self._wanted(), error)

    async def _skip(self) -> None:
        jumps, still_since = 0, 0.0
        while True:
            if not self._wanted():
                jumps, still_since = 0, 0.0
                await asyncio.sleep(_LOOK_EVERY)
                continue
            await self._stillness.wait(max(self._patience(), RESTLESS), for_steps=True)
            wanted = self._wanted()
            worker = self._worker()
            if not wanted or worker is None:
                continue
            due = [at for at in (worker.timers.next_due(), self._clock.next_due()) if at is not None]
            if due:
                still_since = 0.0
                jumps += 1
                if jumps > JUMPS_MAX:
                    await self._give_up(wanted, f"time was skipped {JUMPS_MAX:,} times, and it hasn't ended")
                self._clock.set(min(due))
                worker.timers.look()
                continue
            now = time.monotonic()
            still_since = still_since or now
            if now - still_since >= self._patience():
                await self._give_up(wanted, "nothing is going to happen any more, whatever time passes")
                still_since = 0.0
            await asyncio.sleep(_LOOK_EVERY)

    async def _give_up(self, wanted: list[str], why: str) -> None:
        worker = self._worker()
        if worker is not None:
            worker._residency.note(0.0)  # so that it can be told what the runs wait for
            await self._stillness.wait(max(self._patience(), RESTLESS), for_steps=True)
        for id in dict.fromkeys(wanted):
            try:
                told = _told(await Handle(self._connection, id).why())
            except PerdureError as error:
                told = f"{type(error).__name__}: {error}"
            self._fail([id], StuckError(f"run {id!r} won't end: {why}.\n{told}"))

    def _fail(self, wanted: list[str], error: Exception) -> None:
        """Raise an error where these runs are waited for."""
        connection = self._connection
        waiting: list[asyncio.Future[Any]] = []
        for id, waiters in connection.results._waiters.items():
            waiting += waiters if id in wanted else ()
        for (id, _), answers in connection.inquiry.updates.answers._waiters.items():
            waiting += answers if id in wanted else ()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)


def _told(why: Why, indent: str = "  ") -> str:
    lines = [f"{indent}It is {why.status}:"]
    for cause in why.causes:
        lines.append(f"{indent}- {cause.what}")
        if cause.todo:
            lines.append(f"{indent}  {cause.todo}")
        if cause.child is not None:
            lines.append(f"{indent}  run {cause.child.run!r}:\n{_told(cause.child, indent + '  ')}")
    return "\n".join(lines)


def not_in_real_time(clock: TestClock) -> None:
    """Raise UsageError if the clock can't be set."""
    if clock.real:
        msg = (
            'the clock of this environment is the real one (time="real"), which passes by itself: wait for it'
        )
        raise UsageError(msg)
