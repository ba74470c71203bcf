"""Runs that stand in line or hold slots are moved, and do so elsewhere, by the limits there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from engine_kit import PATIENCE, Place, reaches, run

import perdure
from helpers.postgres import lent_database
from perdure import Status, workflow
from perdure.core.queues import QueueSettings
from perdure.runtime.moving import Mover

NOW = 1_700_000_000.0


@workflow(name="moving_queues.waits")
async def waits(name: str) -> str:
    await perdure.receive("go")
    return name


@pytest.fixture(params=[("memory", "sqlite"), ("sqlite", "postgres"), ("postgres", "memory")], ids="-".join)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    with ExitStack() as lent:

        def make(kind: str) -> Place:
            if kind == "postgres":
                return Place(url=lent.enter_context(lent_database()))
            return Place(tmp_path / "runs.db") if kind == "sqlite" else Place()

        yield make(request.param[0]), make(request.param[1])


def test_lines_and_slots_are_moved(places: tuple[Place, Place]) -> None:
    source, target = places

    async def main() -> None:
        async with source.engine(worker=False) as client:
            await client._store.queues.define("q", QueueSettings(concurrency=2), now=NOW)
            for name, priority in (("a", 0), ("b", 0), ("c", 1), ("d", 7)):
                await client.start(
                    waits(name), id=name, queue="q", key=f"key-{name}", priority=priority, dedup=name
                )
            await client.start(waits("late"), id="late", queue="q", delay=3600, priority=9)
            async with source.engine(queues=["q"]) as worker:
                for name in "ab":
                    await reaches(worker.get(name), "waiting")
        one, other = source.store(), target.store()
        await one.open()
        await other.open()
        await other.queues.define("q", QueueSettings(concurrency=3, priority=True), now=NOW)
        await Mover(one, other, "elsewhere").move()
        await one.close()
        await other.close()
        async with target.engine(queues=["q"]) as engine:
            await reaches(
                engine.get("d"), "waiting"
            )  # by its priority, which counts here; a and b have their slots
            assert await engine.get("c").status() is Status.QUEUED
            assert (await engine.start(waits("x"), queue="q", dedup="c")).id == "c"
            info = await engine.queues.get("q")
            assert info is not None
            assert (info.queued, info.delayed, info.running) == (1, 1, 3)
            moved = await engine.get("c").info()
            assert (moved.key, moved.priority) == ("key-c", 1)
            for name in "abdc":
                await engine.get(name).send("go", None)
            async with asyncio.timeout(PATIENCE):
                assert [await engine.get(name).result() for name in "abcd"] == list("abcd")

    run(main)
