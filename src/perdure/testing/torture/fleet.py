"""Workers in processes of their own, and what is done to them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from perdure import Engine
from perdure.errors import PerdureError, StoreError
from perdure.testing.torture.workshop import ready_file

_WORKER: Final = "from perdure.testing.torture.workshop import main; main()"
_GRACE: Final = 60.0  # seconds that a worker has for its start, and for leaving in good order

#: Workers' lease in seconds: what a paused one must sleep through.
LEASE: Final = 2.0


class Fleet:
    """Workers on one database; an async context manager.

    Args:
        folder: for the books, and what each worker says on stderr.
        cut: cuts connections to the database.
        crash: ends the database's server, and starts it again.
        name: of the workers' logs.
        max_recoveries: of the workers' engines. By default nobody is to be protected from a run that often loses its
            worker: it's for the blows that it does.

    Attributes:
        kills, pauses: how often that was done to a worker.
        died_of_runs: workers that ended, or hung, under `supervise`.
        stopped: ids of the processes that were paused at some time: they may wake up in the middle of anything.
        deaths: what workers said that ended by themselves, which none should.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        size: int,
        chance: random.Random,
        cut: Callable[[], Awaitable[None]] | None = None,
        crash: Callable[[], Awaitable[None]] | None = None,
        *,
        name: str = "worker",
        max_recoveries: int = 1_000_000,
    ) -> None:
        self._url = url
        self._folder = folder
        self._size = size
        self._chance = chance
        self._cut = cut
        self._crash = crash
        self._name = name
        self._max_recoveries = max_recoveries
        self._registered: set[int] = set()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._paused: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._number = 0
        self.kills = self.pauses = self.died_of_runs = 0
        self.stopped: set[int] = set()
        self.deaths: list[str] = []

    @property
    def books(self) -> Path:
        return self._folder / "books.jsonl"

    async def __aenter__(self) -> Fleet:
        self._workers = [self._start() for _ in range(self._size)]
        deadline = time.monotonic() + _GRACE
        while not all(map(self._is_ready, self._workers)):
            if time.monotonic() > deadline or any(worker.poll() is not None for worker in self._workers):
                await self.__aexit__()
                raise PerdureError(
                    f"the workers don't start; see what they say in {self._folder}/{self._name}-*.log"
                )
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for worker, _ in self._paused.values():
            worker.send_signal(signal.SIGCONT)
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                await asyncio.to_thread(worker.wait, _GRACE)
            except subprocess.TimeoutExpired:
                worker.kill()
            await asyncio.to_thread(worker.communicate)

    def look_after(self) -> None:
        """Start workers in the place of those that are gone."""
        for worker in list(self._workers):
            if worker.poll() is not None:
                self._workers.remove(worker)
                if self._crash is not None and not self._is_ready(worker):
                    continue  # it came while the server was down, and said so; whoever supervises starts another
                self.deaths.append(f"worker {worker.pid} ended by itself with code {worker.returncode}")
        while len(self._workers) < self._size:
            self._workers.append(self._start())

    async def supervise(self, engine: Engine) -> None:
        """Start workers in the place of those that have ended, and end those that the others hold for dead."""
        try:
            registered = {worker.pid for worker in await engine.workers()}
        except StoreError:
            registered = self._registered
        hung = self._registered - registered
        self._registered |= registered
        for worker in list(self._workers):
            if worker.pid in hung and worker.poll() is None:
                worker.kill()
            if worker.poll() is not None or worker.pid in hung:
                worker.communicate()
                self._workers.remove(worker)
                self.died_of_runs += 1
        while len(self._workers) < self._size:
            self._workers.append(self._start())

    def said(self, text: str) -> int:
        """How often workers have said this."""
        logs = self._folder.glob(f"{self._name}-*.log")
        return sum(log.read_text(errors="replace").count(text) for log in logs)

    async def attack(self, until: float) -> None:
        """Kill and pause workers until this moment (of the monotonic clock), then let all of them go on."""
        chance = self._chance
        while (now := time.monotonic()) < until:
            self._wake([pid for pid, (_, due) in self._paused.items() if due <= now])
            self.look_after()
            if not any(map(self._is_ready, self._going())):
                await asyncio.sleep(0.05)  # what doesn't work can't be disturbed
                continue
            lot = chance.random()
            if lot < 0.08:
                for worker in self._going():
                    self._kill(worker)
            elif lot < 0.2 and len(self._paused) < self._size - 1:
                self._pause(self._anyone())
            elif lot < 0.3 and self._cut is not None:
                await self._cut()
            elif lot < 0.5 and self._crash is not None:
                await self._crash()
            elif lot < 0.9:
                self._kill(self._anyone())
            self.look_after()
            await asyncio.sleep(chance.uniform(0.05, 1.2))
        self._wake(list(self._paused))
        self.look_after()

    def _going(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self._workers if worker.pid not in self._paused]

    def _anyone(self) -> subprocess.Popen[bytes]:
        """A worker to attack: mostly one that drives runs by now."""
        going = self._going()
        ready = [worker for worker in going if self._is_ready(worker)]
        return self._chance.choice(ready if ready and self._chance.random() < 0.9 else going)

    def _is_ready(self, worker: subprocess.Popen[bytes]) -> bool:
        return ready_file(self.books, worker.pid).exists()

    def _start(self) -> subprocess.Popen[bytes]:
        self._number += 1
        log = self._folder / f"{self._name}-{self._number}.log"
        with log.open("wb") as errors:
            command = [sys.executable, "-c", _WORKER, self._url, str(self.books), str(LEASE)]
            command.append(str(self._max_recoveries))
            # It ends when its standard input does, so none outlives this process.
            return subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
            )

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()
            self.kills += 1
            self._workers.remove(worker)

    def _pause(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGSTOP)
        self.stopped.add(worker.pid)
        self.pauses += 1
        self._paused[worker.pid] = worker, time.monotonic() + LEASE * self._chance.uniform(1.2, 2.5)

    def _wake(self, pids: list[int]) -> None:
        for pid in pids:
            worker, _ = self._paused.pop(pid)
            worker.send_signal(signal.SIGCONT)
