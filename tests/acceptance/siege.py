"""A fleet under siege: workers, a client that sends, and the faults that hit them and their database.

Each fault proves that it hit: by what its victim held at that moment, by how many connections it cut, by what the
survivors and the victim itself say in their logs.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fleet_program
from world import PATIENCE, Process, World, check_books, unfinished_bodies, until

import perdure
from helpers.proxies import Proxy
from perdure import Engine, Handle, events

PROGRAM = Path(fleet_program.__file__)
UNFINISHED = [status for status in perdure.Status if not status.final]
LEASE = 3.0
AT_ONCE = 25  # runs started together
NOTES, BUMPS = 4, 3
DOUBTS = 3  # replies to commits that are lost in a row
THROUGH = "though its reply was lost"

#: What the logs tell, and what that is called in the figures.
SAID = {
    "declared dead": "workers that woke up said that they were declared dead",
    "go on elsewhere": "burials",
    "is no longer driven here": "runs refused to a worker that had lost them",
    THROUGH: "commits in doubt that had come through",
    "is out of reach": "times that work waited for the server",
}


class Siege:
    """Keeps a fleet busy, and attacks it.

    Attributes:
        hits: by kind of fault, how often it was done, and how often it can be shown to have hit.
        woken: processes that were stopped past their lease, and when they were woken up.
    """

    def __init__(
        self, world: World, proxy: Proxy, client: Engine, chance: random.Random, workers: int
    ) -> None:
        assert world.server is not None
        self.proxy = proxy
        self.world = world
        self.server = world.server
        self.client = client
        self.chance = chance
        self.plan = world.folder / "plan.jsonl"
        self.receipts = world.folder / "receipts.jsonl"
        self.plan.touch()
        self.receipts.touch()
        self.handles: list[Handle[object]] = []
        self.done: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.held = self.inside = self.cut = 0
        self.woken: dict[int, list[float]] = {}
        self.fleet = [self.start_worker() for _ in range(workers)]
        self.sender = self.start_sender()
        self.faults: dict[str, Callable[[], object]] = {
            "kill": self.kill,
            "stop": self.stop,
            "restart": self.restart,
            "cut": self.cut_off,
            "doubt": self.doubt,
            "sender": self.kill_sender,
            "sigterm": self.terminate,
            "outage": self.outage,
        }

    def start_worker(self) -> Process:
        return self.world.start(sys.executable, str(PROGRAM), "work", self.world.url, "--lease", str(LEASE))

    def start_sender(self) -> Process:
        files = str(self.plan), str(self.receipts)
        return self.world.start(sys.executable, str(PROGRAM), "send", self.world.url, *files)

    def ready(self) -> None:
        for process in (*self.fleet, self.sender):
            process.wait_ready()

    # -- load ---------------------------------------------------------------------------------------

    async def keep_busy(self) -> None:
        """Start the next runs when most are done, and let the sender know."""
        live = [run async for run in self.client.runs(status=UNFINISHED, limit=None) if not run.parent]
        if len(live) > AT_ONCE:
            return
        numbers = range(len(self.handles), len(self.handles) + AT_ONCE)
        ids = [f"j{number}" for number in numbers]
        calls = [fleet_program.journey(number, NOTES, BUMPS) for number in numbers]
        self.handles += await self.client.start_many(calls, ids=ids)
        with self.plan.open("a") as plan:
            for id in ids:
                plan.write(json.dumps({"id": id, "notes": NOTES, "bumps": BUMPS}) + "\n")

    # -- faults -------------------------------------------------------------------------------------

    async def strike(self, kind: str) -> None:
        """Do one fault, and see whether it hit."""
        hits = self.hits[kind]
        outcome = self.faults[kind]()
        if asyncio.iscoroutine(outcome):
            await outcome
        self.done[kind] += 1
        print(f"{kind}: {'hit' if self.hits[kind] > hits else 'missed'}", flush=True)

    async def victim(self) -> int:
        """A worker that drives runs."""
        busy: list[int] = []

        async def found() -> bool:
            busy[:] = [place for place, worker in enumerate(self.fleet) if self.owned(worker)]
            return bool(busy)

        await until(found)
        return self.chance.choice(busy)

    def owned(self, process: Process) -> int:
        """How many runs a worker drives, as its database knows."""
        ((count,),) = self.ask(
            "SELECT count(*) FROM perdure.runs AS r JOIN perdure.workers AS w ON w.id = r.owner "
            f"WHERE w.pid = {process.pid}"
        )
        assert isinstance(count, int)
        return count

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.execute(statement, self.world.url.rpartition("/")[2])

    def replace(self, place: int) -> None:
        self.fleet[place] = self.start_worker()
        self.fleet[place].wait_ready()

    async def kill(self) -> None:
        place = await self.victim()
        worker = self.fleet[place]
        held = self.owned(worker)
        worker.kill()
        self.inside += unfinished_bodies(self.world.lines(), worker.pid) > 0
        self.held += held
        self.hits["kill"] += held > 0
        self.replace(place)

    async def stop(self) -> None:
        """Until others have declared it dead; then it wakes up, and has to notice."""
        worker = self.fleet[await self.victim()]
        held = self.owned(worker)
        said = worker.log.read_text().count("declared dead")
        worker.signal(signal.SIGSTOP)
        await until(lambda: self.buried(worker))
        self.woken.setdefault(worker.pid, []).append(time.time())
        worker.signal(signal.SIGCONT)

        async def noticed() -> bool:
            return worker.log.read_text().count("declared dead") > said

        await until(noticed)
        self.held += held
        self.hits["stop"] += held > 0

    async def buried(self, worker: Process) -> bool:
        return not self.ask(f"SELECT id FROM perdure.workers WHERE pid = {worker.pid}")

    async def restart(self) -> None:
        await self.away(self.chance.uniform(0.0, 0.4))
        self.hits["restart"] += 1

    async def outage(self) -> None:
        """The server is away for longer than the lease: nobody is dead for that."""
        await self.away(LEASE + self.chance.uniform(0.5, 1.5))
        self.hits["outage"] += 1

    async def away(self, seconds: float) -> None:
        self.cut += self.connections()
        await asyncio.to_thread(self.server.restart, seconds)

    def connections(self) -> int:
        ((count,),) = self.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert isinstance(count, int)
        return count

    def cut_off(self) -> None:
        cut = self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self.cut += len(cut)
        self.hits["cut"] += len(cut) > len(self.fleet)

    async def doubt(self) -> None:
        """Commits that happen, while whoever waits for them hears only that its connection is gone.

        Some of any kind come first: most of those are repeated without a word, or are the test's own. Then each lone
        append is hit, until a process of the fleet has found out that one had come through.
        """
        told = self.said()[THROUGH]
        for _ in range(DOUBTS):
            before = self.proxy.swallowed
            self.proxy.swallow_once(reply=b"COMMIT\0")

            async def swallowed(before: int = before) -> bool:
                return self.proxy.swallowed > before

            await until(swallowed)
        self.proxy.lose_reply_to = lambda data: b"perdure_append_one" in data and b"PREPARE" not in data

        async def found_out() -> bool:
            await self.keep_busy()
            return self.said()[THROUGH] > told

        await until(found_out)
        self.proxy.lose_reply_to = None
        self.hits["doubt"] += 1

    def kill_sender(self) -> None:
        self.hits["sender"] += len(self.sent()) < (NOTES + BUMPS) * len(self.handles)
        self.sender.kill()
        self.sender = self.start_sender()
        self.sender.wait_ready()

    async def terminate(self) -> None:
        place = await self.victim()
        worker = self.fleet[place]
        held = self.owned(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.log.read_text()
        self.held += held
        self.hits["sigterm"] += held > 0
        self.replace(place)

    # -- the end ------------------------------------------------------------------------------------

    def sent(self) -> list[tuple[str, str, int]]:
        """What was acknowledged, repeats included."""
        lines = [json.loads(line) for line in self.receipts.read_bytes().splitlines() if line.endswith(b"}")]
        return [(line["run"], line["what"], line["number"]) for line in lines]

    async def settle(self) -> list[object]:
        """The results of all runs. Nothing may be stuck: what makes no progress any more fails the test."""
        waiting = asyncio.ensure_future(asyncio.gather(*(handle.result() for handle in self.handles)))
        progress, since = 0, asyncio.get_running_loop().time()
        while not waiting.done():
            await asyncio.wait([waiting], timeout=2.0)
            made = sum([run.events async for run in self.client.runs(limit=None)])
            now = asyncio.get_running_loop().time()
            if made != progress:
                progress, since = made, now
            if now - since > PATIENCE:
                waiting.cancel()
                raise AssertionError("stuck: " + "; ".join([await self.why(id) for id in await self.live()]))
        return await waiting

    async def live(self) -> list[str]:
        return [run.id async for run in self.client.runs(status=UNFINISHED, limit=None)]

    async def why(self, id: str) -> str:
        found = await self.client.get(id).why()
        return f"{id} ({found.status}): {', '.join(cause.what for cause in found.causes)}"

    async def check(self) -> list[str]:
        """Compare results, books and receipts with what should be. Returns the figures."""
        results = await self.settle()
        for number, result in enumerate(results):
            assert result == fleet_program.expected(number, NOTES, BUMPS), (number, result)
        findings = await check_books(self.world, self.client, zombies=True)
        assert findings.steps > 0
        for line in findings.too_late:
            # A process can be stopped between its last look at its lease and a body's first line; no engine can help
            # that, and it shows at once when the process wakes up.
            since = [line.time - at for at in self.woken.get(line.pid, ()) if at <= line.time]
            print(f"too late: {line}, {min(since, default=None)} s after waking up")
            assert since
            assert min(since) < LEASE
        sent = self.sent()
        received = Counter[str]()
        for handle in self.handles:
            history = [event async for event in handle.history()]
            received["note"] += sum(isinstance(event, events.MessageReceived) for event in history)
            received["bump"] += sum(isinstance(event, events.UpdateAccepted) for event in history)
            assert not (await handle.info()).undelivered
        once = Counter(what for _, what, _ in set(sent))
        count = len(self.handles)
        assert once == received == {"note": NOTES * count, "bump": BUMPS * count}, (once, received)
        said = self.said()
        assert said[THROUGH] >= self.done["doubt"]
        return [
            "faults (hit/done): "
            + ", ".join(f"{kind} {self.hits[kind]}/{self.done[kind]}" for kind in self.done),
            f"proof: victims held {self.held} runs, {self.inside} kills came inside a step, {self.cut} connections "
            f"were cut, {self.proxy.swallowed} replies to commits lost; logs: "
            + ", ".join(f"{said[text]} {what}" for text, what in SAID.items()),
            f"{findings}; no other recorded step executed again, 0 stuck",
            f"{received['note']} messages and {received['bump']} updates acknowledged and received once each, in "
            f"order ({len(sent) - len(set(sent))} of them sent again with their keys): 0 lost, 0 doubled",
        ]

    def said(self) -> Counter[str]:
        logs = [process.log.read_text() for process in self.world.processes]
        return Counter({text: sum(log.count(text) for log in logs) for text in SAID})
