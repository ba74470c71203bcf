"""However an engine ends, code that was unwound with it had no effect, and its runs go on elsewhere."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from engine_kit import (
    Place,
    Refusing,
    greets,
    recorded,
    run,
    says,
    sets_clock_ahead,
    until,
)

import perdure
from perdure import step, workflow
from perdure.errors import EngineClosedError

EFFECTS: list[str] = []


@step
async def has_an_effect(what: str) -> str:
    EFFECTS.append(what)
    return what


@step
async def hangs() -> None:
    EFFECTS.append("hangs")
    await asyncio.sleep(60)


@workflow
async def long(n: int) -> str:
    try:
        for _ in range(n):
            await says("x")
        await asyncio.sleep(600)
    finally:
        await has_an_effect("cleaned")
    return "done"


@workflow
async def stuck() -> None:
    try:
        await hangs()
    finally:
        await has_an_effect("cleaned")


def test_closing_amid_a_replay_has_no_effect(memory: Place) -> None:
    async def main() -> None:
        EFFECTS.clear()
        async with memory.engine() as engine:
            handle = await engine.start(long(3000), id="a")
            await until(lambda: engine._worker.journal.commits > 3000)  # type: ignore[union-attr]
        for turns in range(10):
            engine = memory.engine()
            sets_clock_ahead(engine, 1000 * (turns + 1))
            async with engine:
                for _ in range(turns):
                    await asyncio.sleep(0)
            del engine
            gc.collect()
            if EFFECTS:  # it got through, and to its end
                break
        engine = memory.engine()
        sets_clock_ahead(engine, 20_000)
        async with engine:
            handle = engine.get("a")
            assert await handle.result() == "done"
            assert len(await recorded(handle)) == 3001
        gc.collect()
        assert EFFECTS == ["cleaned"]

    run(main)


def test_closing_that_is_interrupted_has_no_effect_and_loses_nothing(place: Place) -> None:
    async def main() -> None:
        EFFECTS.clear()
        engine = place.engine(grace=60.0)
        await engine.__aenter__()
        await engine.start(stuck(), id="a")
        await until(lambda: EFFECTS == ["hangs"])
        closing = asyncio.ensure_future(engine.close())
        await asyncio.sleep(0.02)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.sleep(0.02)
        gc.collect()
        assert EFFECTS == ["hangs"]
        async with place.engine() as second:
            store = second._store
            for worker in await store.workers():
                if worker.id != second._worker.id:  # type: ignore[union-attr]
                    await store.bury(worker.id, worker.lease_until, now=0.0, max_recoveries=10)
            await until(lambda: EFFECTS == ["hangs", "hangs"])
            await second.get("a").cancel()
            with pytest.raises(perdure.RunCancelled):
                await second.get("a").result()
        assert EFFECTS == ["hangs", "hangs", "cleaned"]

    run(main)


def test_closing_while_the_store_refuses_writes_does_not_hang(place: Place) -> None:
    async def main() -> None:
        EFFECTS.clear()
        async with place.engine(lambda inner: Refusing(inner, lambda number: number > 1)) as engine:
            await engine.start(long(2), id="a")
            await until(lambda: engine._worker.journal.trouble)  # type: ignore[union-attr]
        gc.collect()
        assert EFFECTS == []
        async with place.engine() as engine:
            handle = engine.get("a")
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert len(await recorded(handle)) <= 3

    run(main)


def test_a_start_while_the_engine_closes_is_refused_or_kept(place: Place) -> None:
    async def main() -> None:
        for turns in range(6):
            async with place.engine() as engine:
                starting = asyncio.ensure_future(engine.start(greets("x"), id=f"a{turns}"))
                for _ in range(turns + 1):
                    await asyncio.sleep(0)
            told = (await asyncio.gather(starting, return_exceptions=True))[0]
            assert isinstance(told, perdure.Handle | EngineClosedError | perdure.StoreError), told
            async with place.engine() as engine:
                found = [item async for item in engine.runs(text=f"a{turns}")]
                if isinstance(told, perdure.Handle):
                    assert found
                for item in found:
                    assert await engine.get(item.id).result() == "hello x"

    run(main)


def test_a_parent_that_gives_up_its_child_as_the_engine_closes_has_it_cancelled(place: Place) -> None:
    @workflow(name="closing.waits")
    async def waits() -> None:
        await asyncio.sleep(60)

    @workflow(name="closing.gives_up")
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(0.05):
                await waits()
        except TimeoutError:
            EFFECTS.append("gave up")
        await asyncio.sleep(600)
        return "done"

    async def main() -> None:
        EFFECTS.clear()
        async with place.engine() as engine:
            await engine.start(gives_up(), id="p")
            await until(lambda: EFFECTS)
        async with place.engine() as engine:
            child: Any = next(item.id for item in [i async for i in engine.runs(workflow="waits", limit=9)])
            with pytest.raises(perdure.RunCancelled):
                await engine.get(child).result()
            await engine.get("p").terminate()

    run(main)
