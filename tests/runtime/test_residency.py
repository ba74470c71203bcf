"""Runs leave memory and come back; few places in memory serve many runs; leaving has no effect on the world."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import perdure
from helpers.engines import Database, residents, run, until
from perdure import step, workflow

calls: list[str] = []
unwound: list[str] = []


@step
async def note(what: str) -> str:
    calls.append(what)
    return what


async def _pages(name: str) -> AsyncIterator[str]:
    try:
        while True:
            yield await note(name)
            await asyncio.sleep(1000)
    finally:
        unwound.append("generator")
        await note("closing " + name)


@workflow
async def has_everything_open() -> str:
    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            unwound.append("task")
            await note("background cleaned")

    task = asyncio.create_task(background())
    try:
        async for page in _pages("page"):
            if task.done() or len(page) > 100:
                break
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(perdure.receive("go"))
                tasks.create_task(note("in group"))
            break
    finally:
        unwound.append("root")
        await note("cleaned")
    return "done"


def test_leaving_memory_has_no_effect_and_replay_brings_everything_back(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    calls.clear()
    unwound.clear()

    async def main() -> None:
        async with database.engine(evict_after=0.05) as engine:
            handle = await engine.start(has_everything_open())
            await until(lambda: calls and residents(engine) == 0)
            assert sorted(calls) == ["in group", "page"]
            assert "root" in unwound
            gc.collect()
            await handle.send("go", None)
            assert await handle.result() == "done"
            assert sorted(calls) == ["background cleaned", "cleaned", "closing page", "in group", "page"]

    with caplog.at_level(logging.WARNING, "perdure"):
        run(main)
    assert not [record for record in caplog.records if "destroyed" in record.getMessage()]


@workflow
async def descends(depth: int) -> int:
    if depth == 0:
        await asyncio.sleep(0.01)
        return 0
    return 1 + await descends(depth - 1)


def test_a_family_deeper_than_memory_completes(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine(max_resident=2) as engine:
            assert await engine.run(descends(6)) == 6

    run(main)


@workflow
async def naps(number: int) -> int:
    await asyncio.sleep(0.05)
    await note(str(number))
    await asyncio.sleep(0.05)
    return number


def test_many_runs_share_few_places(database: Database) -> None:
    calls.clear()

    async def main() -> None:
        async with database.engine(max_resident=5) as engine:
            handles = await engine.start_many([naps(number) for number in range(40)])
            assert [await handle.result() for handle in handles] == list(range(40))
            assert sorted(calls, key=int) == [str(number) for number in range(40)]

    run(main)


@workflow
async def catches_everything() -> None:
    while True:
        try:
            await asyncio.sleep(1000)
        except:  # noqa: E722
            await note("a bare except")


@workflow
async def calls_again_whatever_happens() -> None:
    while True:
        try:
            await note("once")
            await asyncio.sleep(1000)
        except BaseException:
            pass


@pytest.mark.parametrize("flow", [catches_everything, calls_again_whatever_happens])
def test_code_that_catches_everything_leaves_the_engine_alive(memory: Database, flow: Any) -> None:
    calls.clear()

    async def main() -> None:
        async with memory.engine(evict_after=0.05) as engine:
            await engine.start(flow())
            await asyncio.sleep(0.05)
            await until(lambda: residents(engine) == 0)
            gc.collect()
            assert await engine.run(naps(1)) == 1
        assert "a bare except" not in calls
        assert calls.count("once") <= 1

    run(main)


@workflow
async def parent_waits() -> str:
    return await slow_child()


@workflow
async def slow_child() -> str:
    await asyncio.sleep(600)
    return "child"


def test_a_run_that_only_waits_shows_waiting(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(parent_waits())

            async def waiting() -> bool:
                return await handle.status() == "waiting"

            await until(waiting)
            (waits,) = (await handle.info()).waiting_for
            assert waits.kind == "child"
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()

    run(main)


def test_an_engine_that_closes_hands_its_runs_back_and_another_finishes_them(database: Database) -> None:
    calls.clear()

    async def main() -> None:
        async with database.engine() as engine:
            await engine.start_many([naps(number) for number in range(10)], ids=[f"n{n}" for n in range(10)])
        async with database.engine() as engine:
            assert [await engine.get(f"n{n}").result() for n in range(10)] == list(range(10))
        assert sorted(calls, key=int) == [str(number) for number in range(10)]
        assert perdure.Status.COMPLETED.final

    run(main)
