"""Three workers on PostgreSQL under load, and every few seconds something breaks: nothing is lost, repeated or stuck.

Guarantees 1, 4, 5 and 8 of the contract, on a fleet. The seed is printed, and PERDURE_SEED repeats one; PERDURE_SOAK=1
goes on for five minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from siege import Siege
from world import SOAK, World, seeded

from helpers.postgres import Server
from helpers.proxies import Proxy

pytestmark = pytest.mark.acceptance

#: Each of them comes at least once; in a night's run, as often as there is time for.
SHORT = ("kill", "stop", "restart", "cut", "doubt", "sender", "kill")
LONG = ("kill", "stop", "restart", "cut", "doubt", "sender", "sigterm", "outage")
SECONDS = 300.0


def test_a_fleet_under_siege_loses_and_repeats_nothing(tmp_path: Path, figure: Callable[[str], None]) -> None:
    chance = seeded()

    async def scenario(world: World, proxy: Proxy) -> None:
        async with world.client() as client:
            siege = Siege(world, proxy, client, chance, workers=3)
            siege.ready()
            await siege.keep_busy()
            until = time.monotonic() + SECONDS
            kinds: list[str] = []
            while kinds or (SOAK and time.monotonic() < until) or not siege.done:
                kinds = kinds or chance.sample(LONG if SOAK else SHORT, len(LONG if SOAK else SHORT))
                await asyncio.sleep(chance.uniform(1.0, 3.0) if SOAK else chance.uniform(0.5, 1.2))
                await siege.keep_busy()
                await siege.strike(kinds.pop())
            for line in await siege.check():
                figure(line)
            assert all(siege.hits[kind] for kind in (LONG if SOAK else SHORT)), siege.hits

    with ExitStack() as left:
        server = Server()
        left.callback(server.remove)
        proxy = left.enter_context(Proxy(server.port))
        world = World(tmp_path / "world", server, proxy.port)
        left.callback(world.close)
        asyncio.run(scenario(world, proxy))
