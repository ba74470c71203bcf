"""A narrow queue that three processes serve: its limits hold at every moment, whoever is killed and taken over."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import narrow
import pytest
from world import HERE, SOAK, Process, World, seeded, until

from perdure import Engine, events

pytestmark = pytest.mark.acceptance

#: More than can be gone through while that many workers are killed and others begin, however slow the machine is.
RUNS, KILLS = (1200, 12) if SOAK else (70, 2)


def start_worker(world: World) -> Process:
    worker = world.start(sys.executable, str(HERE / "narrow.py"), world.url)
    worker.wait_ready()
    return worker


def lines(world: World) -> list[dict[str, Any]]:
    """What the ledger holds. A line that was cut short by a kill counts for nothing."""
    if not world.ledger.exists():
        return []
    return [json.loads(line) for line in world.ledger.read_bytes().splitlines() if line.endswith(b"}")]


def at_work(found: list[dict[str, Any]]) -> set[int]:
    """The processes in which a body is there."""
    there = Counter[int]()
    for line in found:
        there[line["pid"]] += 1 if line["what"] == "begin" else -1
    return {pid for pid, bodies in there.items() if bodies}


def fullest(found: list[dict[str, Any]], killed: dict[int, float]) -> tuple[int, int, int]:
    """The most bodies that were there at one moment: in all, of one key, in one process.

    Args:
        killed: processes and when they were killed: their bodies were over then.
    """
    last = {line["pid"]: line["time"] for line in found}
    moments: list[tuple[float, int, str, int]] = []
    open_: dict[tuple[int, str], dict[str, Any]] = {}
    for line in found:
        place = (line["pid"], line["run"])
        if line["what"] == "begin":
            assert place not in open_
            open_[place] = line
            moments.append((line["time"], 1, line["key"], line["pid"]))
        else:
            del open_[place]
            moments.append((line["time"], -1, line["key"], line["pid"]))
    for (pid, _), line in open_.items():
        over = max(killed[pid], last[pid])
        moments.append((over, -1, line["key"], pid))
    there, keys, pids = 0, Counter[str](), Counter[int]()
    most = (0, 0, 0)
    for _, change, key, pid in sorted(moments):  # ends before beginnings
        there += change
        keys[key] += change
        pids[pid] += change
        most = max(most[0], there), max(most[1], *keys.values()), max(most[2], *pids.values())
    return most


async def beginnings(client: Engine) -> list[float]:
    """When the runs began, in order."""
    return sorted(
        [run.started_at.timestamp() async for run in client.runs(limit=None) if run.started_at is not None]
    )


def test_limits_hold_while_processes_are_killed(either: World, figure: Callable[[str], None]) -> None:
    world = either

    async def scenario() -> None:
        chance = seeded()
        workers = [start_worker(world) for _ in range(3)]
        killed: dict[int, float] = {}
        async with world.client() as client:
            keys = [f"k{chance.randint(0, 7)}" for _ in range(RUNS)]
            handles = await client.start_many(
                [narrow.goes_through(key) for key in keys], queue=narrow.NARROW, keys=keys
            )
            most_slots = 0

            async def watch() -> None:
                nonlocal most_slots
                while True:
                    info = await client.queues.get(narrow.NARROW)
                    most_slots = max(most_slots, 0 if info is None else info.running)
                    await asyncio.sleep(0.01)

            watching = asyncio.create_task(watch())
            for number in range(KILLS):

                async def further(number: int = number) -> bool:
                    return len(lines(world)) > 2 * RUNS * (number + 1) / (KILLS + 2)

                async def working() -> bool:
                    return bool(at_work(lines(world)) & {worker.pid for worker in workers})

                await until(further)
                await until(working)  # so that there is something to take over
                busy = at_work(lines(world))
                victim = chance.choice([worker for worker in workers if worker.pid in busy] or workers)
                workers.remove(victim)
                killed[victim.pid] = victim.kill()
                workers.append(start_worker(world))
            async with asyncio.timeout(600 if SOAK else 180):
                assert [await handle.result() for handle in handles] == keys
            watching.cancel()
            begun = await beginnings(client)
            recovered = 0
            for handle in handles:
                history = [event async for event in handle.history()]
                recovered += sum(isinstance(event, events.RunRecovered) for event in history)
        found = lines(world)
        bodies, of_a_key, of_a_process = fullest(found, killed)
        window = max(
            sum(first <= other < first + narrow.PER for other in begun[at:]) for at, first in enumerate(begun)
        )
        figure(
            f"{len(begun)} runs by {len({line['pid'] for line in found})} processes, {KILLS} killed, {recovered} "
            f"runs taken over; at most {most_slots} of 6 slots were held, {bodies} bodies were there at once, "
            f"{of_a_key} of one key, {of_a_process} in one process, and {window} of {narrow.BEGIN} began in a window"
        )
        assert most_slots <= 6
        assert bodies <= 6
        assert of_a_key <= 2
        assert of_a_process <= 4
        assert window <= narrow.BEGIN
        assert len(begun) == RUNS
        assert recovered

    asyncio.run(scenario())
