"""Runs that take their workers down, among healthy ones: they are set aside with the reason, nobody else is.

A supervisor keeps workers going as those of real machines do: it starts one in the place of each that has ended, ends
those that hang, and those that take too much memory.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import poison
import pytest
from world import HERE, SOAK, Process, World

from perdure import Engine, Handle

pytestmark = pytest.mark.acceptance

WORKERS = 3
DEATHS = 10 if SOAK else 3  # max_recoveries
GOOD = 1000 if SOAK else 60
EACH = 3 if SOAK else 1
PATIENT = 24 if SOAK else 6
MEMORY_MAX = 300 << 20  # bytes that a worker may have
LEASE = 4.0


class Supervisor:
    """Keeps workers going."""

    def __init__(self, world: World, client: Engine) -> None:
        self.world = world
        self.client = client
        self.workers: list[Process] = []
        self.heard: set[int] = set()  #: process ids of those that were registered at some time
        self.ends: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            for worker in list(self.workers):
                if (code := worker.popen.poll()) is not None:
                    self._gone(worker, f"code {code}")
                elif memory_of(worker.pid) > MEMORY_MAX:
                    worker.kill()
                    self._gone(worker, "memory")
            await self._end_those_that_hang()
            while len(self.workers) < WORKERS:
                command = [sys.executable, str(HERE / "poison.py"), self.world.url]
                options = ["--lease", str(LEASE), "--max-recoveries", str(DEATHS)]
                self.workers.append(self.world.start(*command, *options))
            await asyncio.sleep(0.05)

    async def _end_those_that_hang(self) -> None:
        """Whoever the others have declared dead."""
        registered = {worker.pid for worker in await self.client._store.workers()}
        self.heard |= registered
        for worker in list(self.workers):
            if worker.pid in self.heard - registered:
                worker.kill()
                self._gone(worker, "hung")

    def _gone(self, worker: Process, how: str) -> None:
        self.workers.remove(worker)
        worker.close()
        self.ends[how] += 1


def memory_of(pid: int) -> int:
    """Bytes that a process has in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def test_deadly_runs_are_set_aside_and_nobody_else(either: World, figure: Callable[[str], None]) -> None:
    world = either

    async def scenario() -> None:
        async with world.client() as client:
            supervisor = Supervisor(world, client)
            task = asyncio.create_task(supervisor.run())
            patient = await client.start_many([poison.patient(n, 4.0) for n in range(PATIENT)])
            asleep = await client.start_many([poison.asleep(n) for n in range(10)])
            deadly = [
                await client.start(poison.poison(kind, seconds), id=f"{kind}-{number}")
                for number in range(EACH)
                for kind, seconds in (("exit", 0.0), ("crash", 0.3), ("spin", 0.0), ("hog", 0.0))
            ]
            good: list[Handle[int]] = []
            began = time.monotonic()
            for first in range(0, GOOD, 20):  # they come all the time
                good += await client.start_many([poison.good(n) for n in range(first, first + 20)])
                await asyncio.sleep(0.3)
            async with asyncio.timeout(1500):
                assert [await handle.result() for handle in good] == [5 * n + 10 for n in range(GOOD)]
                healthy = time.monotonic() - began
                assert [await handle.result() for handle in patient] == list(range(PATIENT))

                while not all([await handle.status() == "blocked" for handle in deadly]):
                    assert not task.done(), task.result()
                    await asyncio.sleep(0.1)
                for handle in asleep:
                    await handle.send("wake", None)
                assert [await handle.result() for handle in asleep] == list(range(10))
            for handle in deadly:
                info = await handle.info()
                assert info.recoveries > DEATHS
                assert f"died {info.recoveries} times in a row" in (info.reason or "")
                (cause,) = (await handle.why()).causes
                assert cause.kind == "crashes"
            blocked = {run.id async for run in client.runs(status="blocked", limit=None)}
            assert blocked == {handle.id for handle in deadly}
            assert {"code 3", "code -11", "memory", "hung"} <= set(supervisor.ends)
            task.cancel()
            figure(
                f"{len(deadly)} deadly runs among {GOOD + PATIENT + 10}: all of them set aside, nobody else; "
                f"{sum(supervisor.ends.values())} workers died ({dict(supervisor.ends)}); the healthy ones "
                f"had ended after {healthy:.1f} s, all was found after {time.monotonic() - began:.1f} s"
            )

    asyncio.run(scenario())
