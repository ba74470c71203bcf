"""What the acceptance tests share: processes to kill, the ledger to check, and the checks themselves.

The engine is seen only from outside: through its public client, the command line, and the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.postgres import Server
from perdure import Engine, Handle, events

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
PROGRAM = HERE / "program.py"
PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]

#: More of everything, for a night's run.
SOAK = os.environ.get("PERDURE_SOAK") == "1"

PATIENCE = 120.0  # seconds after which a test gives up; no statement about speed


@dataclass(frozen=True)
class Line:
    """One line of the ledger."""

    what: str
    run: str
    step: str
    attempt: int
    pid: int
    time: float


class Process:
    """A process of ours: it can be killed, and its output is kept."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        number = len(list(folder.glob("process-*.log")))
        self.log = folder / f"process-{number}.log"
        self._log = self.log.open("wb")
        self.popen = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=self._log
        )
        self.pid = self.popen.pid

    def wait_ready(self) -> None:
        """Until the worker has said that it drives runs."""
        assert self.popen.stdout is not None
        readable, _, _ = select.select([self.popen.stdout], [], [], PATIENCE)
        assert readable, "the worker didn't get ready"
        assert self.popen.stdout.readline() == b"ready\n", self.log.read_text()

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> float:
        """SIGKILL, and wait for the end. Returns when it was sent."""
        at = time.time()
        self.popen.kill()
        self.close()
        return at

    def wait(self) -> int:
        code = self.popen.wait(PATIENCE)
        self.close()
        return code

    def output(self) -> str:
        """Wait for the end, return what was printed."""
        out, _ = self.popen.communicate(timeout=PATIENCE)
        self._log.close()
        return out.decode()

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        self._log.close()


@dataclass
class World:
    """A folder with a database, a ledger, and the processes that work on them.

    Attributes:
        server: a PostgreSQL server whose database takes the file's place.
        port: of a proxy in front of it.
    """

    folder: Path
    server: Server | None = None
    port: int | None = None
    database: Path = field(init=False)
    ledger: Path = field(init=False)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.database = self.folder / "runs.db"
        self.ledger = self.folder / "ledger.jsonl"
        self._url: str | None = None
        if self.server is not None:
            self._url = self.server.url(self.server.new_database(), port=self.port)

    @property
    def url(self) -> str:
        """Of the server's database, or of the file, which a test may have put elsewhere."""
        return self._url or f"sqlite:///{self.database}"

    def move_to(self, url: str) -> None:
        """Work with this database from now on."""
        self._url = url

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "PERDURE_URL"}
        path = os.pathsep.join(filter(None, (str(HERE), inherited.get("PYTHONPATH"))))
        return {**inherited, "LEDGER": str(self.ledger), "PYTHONPATH": path}

    def start(self, *command: str, **environment: str) -> Process:
        process = Process(command, self.folder, {**self.environment, **environment})
        self.processes.append(process)
        return process

    def start_worker(self, *options: str, **environment: str) -> Process:
        return self.start(sys.executable, str(PROGRAM), self.url, *options, **environment)

    def perdure(self, *arguments: str) -> Process:
        """The command line."""
        return self.start(*PERDURE, *arguments, "--url", self.url)

    def client(self) -> Engine:
        return Engine(self.url, worker=False)

    def lines(self) -> list[Line]:
        if not self.ledger.exists():
            return []
        written = self.ledger.read_bytes().rpartition(b"\n")[0].splitlines()
        # A line that a SIGKILL has cut short counts for nothing, as if the kill had come a moment earlier.
        return [Line(**json.loads(line)) for line in written if line.endswith(b"}")]

    def close(self) -> None:
        for process in self.processes:
            process.close()


@dataclass
class Findings:
    """What a check found, for the printed summary."""

    runs: int = 0
    steps: int = 0
    repeated: int = 0  #: bodies begun that were never recorded: cut off, and run again
    taken_over: int = 0
    too_late: list[Line] = field(
        default_factory=list
    )  #: begun after another worker had recorded the step's outcome

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.steps} recorded steps, {self.repeated} repeated because never recorded, "
            f"{self.taken_over} take-overs recorded, {len(self.too_late)} begun too late by a process that was stopped"
        )


async def check_books(world: World, client: Engine, *, zombies: bool = False) -> Findings:
    """Every run completed, and no step was begun after its outcome was recorded, or recorded twice.

    An outcome's event carries the moment at which the step's body had returned, before it was written. So a
    body that begins later than that, of a step that has such an event, is work done twice.

    Args:
        zombies: count such bodies instead of refusing them. A process can be stopped between its last look at
            its lease and the first line of a step's body; no engine can help that, nor record the outcome.
    """
    begun: dict[tuple[str, str], list[Line]] = {}
    for line in world.lines():
        if line.what == "begin":
            begun.setdefault((line.run, line.step), []).append(line)
    findings = Findings()
    async for run in client.runs(limit=None):
        assert run.status == "completed", (run, run.reason)
        findings.runs += 1
        history = [event async for event in client.get(run.id).history()]
        findings.taken_over += sum(isinstance(event, events.RunRecovered) for event in history)
        outcomes = [event for event in history if isinstance(event, events.StepCompleted)]
        counted = Counter(event.step for event in outcomes)
        assert all(times == 1 for times in counted.values()), (run.id, counted)
        for event in outcomes:
            bodies = begun.pop((run.id, event.step))
            again = [line for line in bodies if line.time > event.at]
            assert zombies or not again, f"recorded at {event.at}, and begun again: {again}"
            findings.too_late += again
            recorded = [line.attempt for line in bodies if event.started_at <= line.time <= event.at]
            assert recorded == [event.attempt] or (zombies and event.attempt in recorded), (event, bodies)
            failures = sum(isinstance(e, events.StepAttemptFailed) and e.step == event.step for e in history)
            findings.repeated += len(bodies) - 1 - failures
            findings.steps += 1
    assert not begun, f"steps began that no history knows: {begun}"
    return findings


def unfinished_bodies(lines: Iterable[Line], pid: int) -> int:
    """How many bodies a process has begun and not ended."""
    counts = Counter(line.what for line in lines if line.pid == pid)
    return counts["begin"] - counts["end"]


def seeded(number: int = 0) -> random.Random:
    """Chance that can be repeated: its seed is printed, and PERDURE_SEED gives one."""
    seed = int(os.environ.get("PERDURE_SEED", "0")) or int(time.time() * 1000) % 1_000_000 + number
    print(f"\nseed {seed} (repeat it with PERDURE_SEED={seed})")
    return random.Random(seed)


async def results(handles: Sequence[Handle[Any]]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(handle.result() for handle in handles))


async def bodies_begun(world: World, count: int, pid: int | None = None) -> None:
    """Wait until so many bodies have begun, in all or in one process."""

    async def enough() -> bool:
        return sum(line.what == "begin" and pid in (None, line.pid) for line in world.lines()) >= count

    await until(enough)


async def logged(process: Process, text: str, times: int = 1, patience: float = PATIENCE) -> None:
    """Wait until a process has said something on stderr, so often."""

    async def said() -> bool:
        return process.log.read_text().count(text) >= times

    await until(said, patience)


async def until(condition: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(patience):
        while not await condition():
            await asyncio.sleep(0.02)
