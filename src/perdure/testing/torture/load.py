"""The client: it starts random programs, sends what they wait for, and knows what was promised to it.

What the engine acknowledged counts; what it refused, because the database couldn't be reached, is asked again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from perdure import Engine, Handle
from perdure.errors import PerdureError, StoreError
from perdure.testing.torture.programs import Drawing, Program, expected, messages, value_of
from perdure.testing.torture.workshop import runs

T = TypeVar("T")

#: Runs at a time.
AT_ONCE: Final = 16
#: Seconds after the last blow within which everything must have ended.
PATIENCE: Final = 120.0


class Load:
    """Keeps runs going.

    Args:
        name: leads the ids of the runs.

    Attributes:
        started: runs whose start was acknowledged.
        completed: those that ended with the result that their program says.
        wrong, stuck: what is the matter with the others.
        refused: how often the store said that it can't be used.
    """

    def __init__(self, engine: Engine, seed: int, *, name: str = "torture") -> None:
        self._engine = engine
        self._seed = seed
        self._name = name
        self.started = self.completed = self.refused = 0
        self.wrong: list[str] = []
        self.stuck: list[str] = []

    async def keep_up(self, until: float) -> None:
        """Start runs until this moment (of the monotonic clock), then wait for all of them."""
        live: set[asyncio.Task[None]] = set()
        number = 0
        while time.monotonic() < until:
            number += 1
            live.add(asyncio.create_task(self._one(number)))
            if len(live) >= AT_ONCE:
                left = max(0.0, until - time.monotonic())
                _, live = await asyncio.wait(live, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if live:
            _, pending = await asyncio.wait(live, timeout=PATIENCE)
            for task in pending:
                task.cancel()
            await asyncio.gather(*live, return_exceptions=True)

    async def _one(self, number: int) -> None:
        own = f"{self._name}-{self._seed}"
        chance = random.Random(f"{own}/{number}")  # noqa: S311 - a seed must bring the same programs
        program = Drawing(chance, f"{own}-{number}").program()
        id = f"{own}-{number}"
        handle = await self._insist(lambda: self._engine.start(runs(program, 0), id=id))
        self.started += 1
        try:
            for tag in messages(program):
                await asyncio.sleep(chance.choice((0.0, 0.02, 0.3)))
                await self._insist(partial(handle.send, tag, value_of(tag), key=tag))
            await self._compare(handle, program)
        except asyncio.CancelledError:
            self.stuck.append(f"{id}: {await self._standing(handle)}")
            raise
        except PerdureError as error:
            self.wrong.append(f"{id}: {type(error).__name__}: {error}")

    async def _compare(self, handle: Handle[int], program: Program) -> None:
        result = await self._insist(handle.result)
        if result == expected(program):
            self.completed += 1
        else:
            self.wrong.append(f"{handle.id} resulted in {result}, and its program says {expected(program)}")

    async def _standing(self, handle: Handle[int]) -> str:
        try:
            info = await handle.info()
        except PerdureError as error:
            return f"{type(error).__name__}: {error}"
        waits = ", ".join(f"{wait.kind} {wait.id}" for wait in info.waiting_for)
        return f"{info.status} after {info.events} events. {info.reason or waits}"

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StoreError:
                self.refused += 1
                await asyncio.sleep(0.1)
