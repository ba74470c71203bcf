"""Three processes that compete for the same rate limit: no window ever holds more, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import limited
import pytest
from world import HERE, SOAK, Process, World, until

from perdure import events

pytestmark = pytest.mark.acceptance

RUNS, CALLS = (60, 6) if SOAK else (16, 6)


def start_worker(world: World) -> Process:
    worker = world.start(sys.executable, str(HERE / "limited.py"), world.url)
    worker.wait_ready()
    return worker


def fullest(lines: Sequence[dict[str, Any]], amount: Callable[[dict[str, Any]], int]) -> int:
    """The most within any window [t, t + per)."""
    ordered = sorted(lines, key=lambda line: line["time"])
    best = held = first = 0
    for line in ordered:
        held += amount(line)
        while ordered[first]["time"] <= line["time"] - limited.PER:
            held -= amount(ordered[first])
            first += 1
        best = max(best, held)
    return best


def test_no_window_holds_more_than_the_limit(either: World, figure: Callable[[str], None]) -> None:
    world = either

    async def scenario() -> None:
        workers = [start_worker(world) for _ in range(3)]
        async with world.client() as client:
            began = time.time()
            handles = await client.start_many([limited.talk(seed, CALLS) for seed in range(RUNS)])

            async def amid() -> bool:
                lines = limited.lines(world.ledger)
                return len(lines) > RUNS * CALLS / 4 and len({line["pid"] for line in lines}) == 3

            await until(amid)
            workers[0].kill()
            start_worker(world)
            async with asyncio.timeout(600 if SOAK else 180):
                for handle in handles:
                    await handle.result()
            took = time.time() - began
            delays = away = 0
            for handle in handles:
                history = [event async for event in handle.history()]
                delays += sum(isinstance(event, events.StepDelayed) for event in history)
                away += sum(isinstance(event, events.RunRecovered) for event in history)
        lines = limited.lines(world.ledger)
        calls, tokens = fullest(lines, lambda line: 1), fullest(lines, lambda line: line["tokens"])
        pids = len({line["pid"] for line in lines})
        figure(
            f"{len(lines)} calls of {pids} processes in {took:.1f} s, {sum(line['tokens'] for line in lines)} tokens; "
            f"the fullest {limited.PER:g} s held {calls} of {limited.CALLS} calls and {tokens} of {limited.TOKENS} "
            f"tokens; {delays} waits in histories, {away} runs taken over"
        )
        assert calls <= limited.CALLS
        assert tokens <= limited.TOKENS
        assert delays > 0
        assert pids >= 3
        assert len(lines) >= RUNS * (CALLS + CALLS // 3)

    asyncio.run(scenario())


def test_a_provider_that_turns_one_away_stops_them_all(either: World, figure: Callable[[str], None]) -> None:
    world = either

    async def scenario() -> None:
        for _ in range(3):
            start_worker(world)
        async with world.client() as client:
            handles = await client.start_many([limited.talk(seed, 4) for seed in range(RUNS)])

            async def all_are_at_it() -> bool:
                return len({line["pid"] for line in limited.lines(world.ledger)}) == 3

            await until(all_are_at_it)
            end = time.time() + 5.0
            Path(f"{world.ledger}.closed").write_text(str(end))

            async def blocked() -> bool:
                info = await client.limits.get(limited.PROVIDER)
                return info is not None and info.blocked_until is not None

            await until(blocked)
            seen = time.time()
            async with asyncio.timeout(180):
                for handle in handles:
                    await handle.result()
        lines = limited.lines(world.ledger)
        refused = [line for line in lines if line["what"] == "refused"]
        # permissions for the next 0.1 s were given already, and hold for another 0.1 s
        late = [line for line in lines if seen + 0.8 < line["time"] < end - 0.1]
        figure(
            f"{len(refused)} calls were turned away before all three had heard of it, {len(late)} after that"
        )
        assert refused
        assert not late
        assert fullest(lines, lambda line: 1) <= limited.CALLS

    asyncio.run(scenario())
