"""A page that shows tokens while they are written: the writer is killed, the reader loses its connection, again and
again, and in the end the page shows each word once, in order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import writers
from world import HERE, Process, World, seeded

from perdure import StreamItem

pytestmark = pytest.mark.acceptance

KILLS = 3


class Page:
    """What somebody sees who reads a stream: all it keeps is its texts, and the last offset."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.offset = 0
        self.seen: list[int] = []
        self.taken_back = 0
        self.connections = 0

    def show(self, item: StreamItem[Any]) -> None:
        assert item.step is not None
        self.offset = item.offset
        self.seen.append(item.offset)
        if item.kind == "superseded":
            self.taken_back += len(self.texts.pop(item.step, []))
        else:
            self.texts.setdefault(item.step, []).append(item.value)

    async def read(self, world: World, chance: Random) -> None:
        """Read to the end of the run; after some items the connection is lost, and a new one goes on from there."""
        while True:
            self.connections += 1
            left = chance.randint(1, 40)
            async with world.client() as client:
                async for item in client.get("book").stream("tokens", after=self.offset):
                    self.show(item)
                    self.check()
                    left -= 1
                    if left == 0:
                        break
                else:
                    return

    def check(self) -> None:
        """At no moment does it show anything twice, or out of order."""
        for text in self.texts.values():
            assert text == writers.words(int(text[0].partition(".")[0]))[: len(text)]


def start_worker(world: World) -> Process:
    worker = world.start(sys.executable, str(HERE / "writers.py"), world.url)
    worker.wait_ready()
    return worker


def test_a_page_shows_each_token_once_whoever_is_killed(either: World, figure: Callable[[str], None]) -> None:
    world, chance = either, seeded()

    async def scenario() -> None:
        worker = start_worker(world)
        page, late = Page(), Page()
        async with world.client() as client:
            handle = await client.start(writers.book(), id="book")
            reading = asyncio.create_task(page.read(world, chance))
            for _ in range(KILLS):
                before = len(page.seen)
                assert not reading.done()
                while len(page.seen) < before + chance.randint(5, writers.WORDS // 2):
                    await asyncio.sleep(0.005)
                worker.kill()  # in the middle of an attempt, and of what its reader has got of it
                worker = start_worker(world)
            (world.folder / writers.GO).touch()
            async with asyncio.timeout(120):
                assert await handle.result() == 3 * writers.WORDS
                await reading
            await late.read(world, chance)
        whole = [writers.words(chapter) for chapter in (1, 2, 3)]
        for one in (page, late):
            assert sorted(one.texts.values()) == sorted(whole)
            assert one.seen == sorted(set(one.seen))  # nothing came twice, over all connections
        assert page.taken_back > 0
        assert late.taken_back == 0  # void items aren't shown to whoever comes later
        figure(
            f"{3 * writers.WORDS} tokens, {KILLS} kills, {page.connections} connections of a reader: {page.taken_back} "
            "tokens of lost attempts taken back, each token shown once in the end"
        )

    asyncio.run(scenario())


def test_a_reader_that_was_away_during_the_death_is_told_first(world: World) -> None:
    async def scenario() -> None:
        worker = start_worker(world)
        async with world.client() as client:
            await client.start(writers.book(), id="book")
            page = Page()
            async for item in client.get("book").stream("tokens"):
                page.show(item)
                if len(page.seen) == 20:
                    break
            worker.kill()
            (world.folder / writers.GO).touch()
            start_worker(world)
            async with asyncio.timeout(120):
                await client.get("book").result()
            shown = set(page.texts)
            told = [item async for item in client.get("book").stream("tokens", after=page.offset)]
            for step in shown:
                of_step = [item.kind for item in told if item.step == step]
                assert of_step[0] == "superseded"
                assert of_step.count("superseded") == 1
            for item in told:
                page.show(item)
            assert sorted(page.texts.values()) == sorted(writers.words(chapter) for chapter in (1, 2, 3))

    asyncio.run(scenario())
