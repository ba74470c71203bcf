"""Maps and polls replay: as a whole, from each prefix, and cancelled at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import perdure
from helpers.simulation import Boom, Nudge, Recorded, check_replay, child, do, see, simulate

Shape = Callable[[], Coroutine[Any, Any, Any]]


async def one(item: tuple[str, float, str]) -> str:
    label, takes, fails = item
    await do(label, takes, fails)
    see("between", label)
    await asyncio.sleep(1.5)
    return await do(label + "!", 0.5)


async def collects(fn: Any, items: Any, **limits: Any) -> list[Any]:
    try:
        result = await perdure.map(fn, items, **limits)
    except perdure.MapFailed as error:
        see("failed", str(error))
        result = error.result
    told = [result.results, result.statuses, [str(error) for error in result.errors.values()]]
    return [*told, await do("after")]


def items(*failing: int) -> list[tuple[str, float, str]]:
    """Items that end in another order than they begin."""
    return [(f"{n}", float(1 + n * 7 % 5), "Boom" if n in failing else "") for n in range(6)]


async def windows() -> Any:
    return await collects(one, items(), concurrency=2)


async def all_at_once() -> Any:
    return await collects(one, items())


async def first_failure() -> Any:
    return await collects(one, items(3), concurrency=3)


async def tolerated() -> Any:
    return await collects(one, iter(items(1, 3)), concurrency=2, max_failure_ratio=0.4)


async def early() -> Any:
    return await collects(one, items(0), concurrency=3, min_successful=2)


async def children() -> Any:
    return await collects(child, ["a", "b", "c"], concurrency=2)


async def nested() -> Any:
    async def outer(number: int) -> list[str | None]:
        return list(await perdure.map(one, items()[:number], concurrency=2))

    return await collects(outer, [2, 3], concurrency=2)


async def cleans_up() -> Any:
    async def careful(item: tuple[str, float, str]) -> str:
        try:
            return await one(item)
        finally:
            see("cleaned", await do("cleaning", 2.0))

    async with asyncio.timeout(4):
        return await collects(careful, items(), concurrency=2)


async def sequence_failing() -> Any:
    def breaks() -> Any:
        yield from items()[:2]
        raise Boom("the iterable")

    return await collects(one, breaks(), concurrency=3)


async def polled() -> Any:
    looks = 0

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        await do(f"look {looks}", 0.5)
        return "found" if looks == 4 else None

    return await perdure.poll(look, every=1, backoff=2, timeout=60)


async def polled_in_vain() -> Any:
    async def look() -> bool:
        return (await do("look", 2.0)) == "other"

    try:
        await perdure.poll(look, every=3, timeout=7)
    except TimeoutError as error:
        return [str(error), await do("after")]


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (
        windows,
        all_at_once,
        first_failure,
        tolerated,
        early,
        children,
        nested,
        cleans_up,
        sequence_failing,
        polled,
        polled_in_vain,
    )
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_replay_brings_the_code_to_the_same_place(name: str) -> None:
    live = simulate(SHAPES[name])
    assert live.ending is not None
    check_replay(lambda: SHAPES[name], live)


@pytest.mark.parametrize("name", SHAPES)
def test_a_cancellation_at_any_moment_replays(name: str) -> None:
    calm = simulate(SHAPES[name])
    for at in sorted({event.at for event in calm.history}):
        for shift in (0.0, 0.25):
            nudges = [Nudge(at - calm.history[0].at + shift)]
            live = simulate(SHAPES[name], nudges=nudges)
            check_replay(lambda: SHAPES[name], live, nudges=nudges, prefixes=False)


def ids(live: Recorded) -> list[str]:
    return sorted(live.asked)


def test_ids_are_those_of_the_items() -> None:
    assert ids(simulate(children)) == ["1.0/child#1", "1.1/child#1", "1.2/child#1", "do#1"]
    wide, narrow = simulate(all_at_once), simulate(windows)
    assert wide.asked != narrow.asked
    assert ids(wide) == ids(narrow)
    assert "1.5/sleep:1" in ids(wide)
    assert "1.1.1.2/do#2" in simulate(nested).asked
