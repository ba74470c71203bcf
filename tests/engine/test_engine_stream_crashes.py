"""A crash at any append of runs that emit, set attributes and ask `patched` changes nothing of what is seen."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, run

import perdure
from perdure import Engine, Retry, emit, step, workflow


@step(name="streamcrash.says", retry=Retry(initial=0.001))
async def says(word: str, fails: int = 0) -> str:
    emit("words", f"{word}1")
    await asyncio.sleep(0)
    if perdure.step_info().attempt <= fails:
        raise OSError(word)
    emit("words", f"{word}2")
    return word


@step(name="streamcrash.says_in_thread")
def says_in_thread(word: str) -> str:
    emit("words", word)
    return word


@workflow(name="streamcrash.emits")
async def emits() -> str:
    emit("words", "begin")
    told = await says("a") + await says_in_thread("b")
    emit("words", "middle")
    emit("other", 1)
    await asyncio.sleep(0.005)
    emit("words", "end")
    return told


@workflow(name="streamcrash.retries")
async def retries() -> str:
    emit("words", "begin")
    return await says("a", fails=2)


@workflow(name="streamcrash.attributes")
async def attributes() -> str:
    perdure.set_attributes(stage="begun", tries=1)
    await says("a")
    perdure.set_attributes(stage="half", tries=None, tags=["x", "y"])
    await asyncio.sleep(0.005)
    perdure.set_attributes(stage="done")
    return "done"


@workflow(name="streamcrash.patches")
async def patches() -> list[str]:
    told = [await says("new") if perdure.patched("one") else await says("old")]
    told.append(await says("new") if perdure.patched("two") and perdure.patched("one") else "old")
    await asyncio.sleep(0.005)
    return [*told, "new" if perdure.patched("three") else "old"]


SHAPES = [emits, retries, attributes, patches]


async def drives(engine: Engine, shape: Any) -> Any:
    return await (await engine.start(shape(), id="a", attributes={"kind": "crash"})).result()


async def seen(engine: Engine) -> Any:
    """What counts of the streams, the attributes, and the changes."""
    handle = engine.get("a")
    streams = {
        name: [item.value async for item in handle.stream(name)]
        for name, _ in await engine._store.streams.names("a")
    }
    records = [
        (type(event).__name__, event.op)
        async for event in handle.history()
        if isinstance(event, perdure.events.Record)
    ]
    return streams, (await handle.info()).attributes, records


async def disturbed(place: Place, shape: Any, dies_at: int, commits: bool) -> tuple[Any, Any, bool]:
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, Ledger()))
    await engine.__aenter__()
    store: Any = engine._store
    driving = asyncio.ensure_future(drives(engine, shape))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    async with place.engine() as engine:
        return await drives(engine, shape), await seen(engine), died


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.rpartition(".")[2])
def test_a_crash_at_any_append_changes_nothing_of_what_counts(
    shape: Any, commits: bool, make_place: Places
) -> None:
    async def main() -> None:
        async with make_place().engine() as engine:
            expected = await drives(engine, shape), await seen(engine)
        number, died = 0, True
        while died:
            number += make_place.stride
            *found, died = await disturbed(make_place(), shape, number, commits)
            assert tuple(found) == expected, f"died at append {number}"
        assert number > 2

    run(main)
