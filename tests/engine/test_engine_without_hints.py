"""With every NOTIFY dropped, engines on PostgreSQL do all they do; some of it a second later.

PERDURE_TEST_HINTS=0 drops them for all tests of the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from engine_kit import Place, bury, crash, drop_hints, greets, reaches, recorded, run, says

import perdure
from helpers.postgres import lent_database
from perdure import workflow


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A PostgreSQL database on which no hint gets through."""
    drop_hints(monkeypatch)
    with lent_database() as url:
        yield Place(url=url)


@workflow(name="hints.waits")
async def waits() -> str:
    word = await perdure.receive("word", str)
    return await says(word)


@workflow(name="hints.family")
async def family() -> list[str]:
    return await asyncio.gather(*(greets(name) for name in "abc"))


@workflow(name="hints.sleeps")
async def sleeps() -> str:
    await asyncio.sleep(0.2)
    return await says("rested")


def test_a_client_elsewhere_starts_sends_and_gets_results(silent: Place) -> None:
    async def main() -> None:
        async with silent.engine(), silent.engine(worker=False) as client:
            assert await client.run(greets("you")) == "hello you"
            assert await client.run(family()) == ["hello a", "hello b", "hello c"]
            handle = await client.start(waits())
            await reaches(handle, "waiting")
            await handle.send("word", "there")
            assert await handle.result() == "there"
            assert await client.run(sleeps()) == "rested"

    run(main)


def test_a_client_elsewhere_cancels_and_terminates(silent: Place) -> None:
    async def main() -> None:
        async with silent.engine(), silent.engine(worker=False) as client:
            one, two = await client.start(waits()), await client.start(waits())
            await reaches(one, "waiting")
            await reaches(two, "waiting")
            await one.cancel()
            with pytest.raises(perdure.RunCancelled):
                await one.result()
            await two.terminate()
            with pytest.raises(perdure.RunTerminated):
                await two.result()

    run(main)


def test_another_worker_takes_over(silent: Place) -> None:
    async def main() -> None:
        async with silent.engine() as survivor:
            engine = silent.engine()
            await engine.__aenter__()
            handle = await engine.start(waits(), id="r")
            await reaches(handle, "waiting")
            await crash(engine)
            await bury(silent)
            handle = survivor.get("r")
            await handle.send("word", "there")
            assert await handle.result() == "there"
            assert await recorded(handle) == ["engine_kit.says#1"]

    run(main)
