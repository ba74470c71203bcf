"""Steps publish with their result, wherever they execute: once, and not if they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import process_kit as kit
from engine_kit import Place, bury, crash, run, until

import perdure
from perdure import Engine, Retry, step, workflow


@step(name="pubsteps.elsewhere", queue="gpu", retry=Retry(max_attempts=2, initial=0.001))
async def elsewhere(word: str) -> str:
    perdure.publish("elsewhere", word)
    if perdure.step_info().attempt == 1:
        raise OSError(word)
    return word


@step(name="pubsteps.once", once=True)
async def once(word: str) -> str:
    perdure.publish("once", word)
    return word


@step(name="pubsteps.fails", retry=Retry(max_attempts=2, initial=0.001))
def fails(word: str) -> str:
    perdure.publish("fails", word)
    raise OSError(word)


@step(name="pubsteps.hangs")
async def hangs(word: str) -> str:
    perdure.publish("hangs", word)
    HUNG.append(word)
    if len(HUNG) == 1:
        await asyncio.sleep(3600)
    return word


HUNG: list[str] = []


@workflow(name="pubsteps.flow")
async def flow(name: str) -> str:
    steps: dict[str, Any] = {
        "elsewhere": elsewhere,
        "once": once,
        "fails": fails,
        "hangs": hangs,
        "process": kit.publishes_from_a_process,
    }
    try:
        return str(await steps[name](name))
    except OSError:
        return "failed"


async def payloads(engine: Engine, name: str) -> list[Any]:
    return [one.payload async for one in engine.publications(name)]


def test_in_a_queue(place: Place) -> None:
    async def main() -> None:
        async with place.engine(), place.engine(queues=("gpu",)) as engine:
            handle = await engine.start(flow("elsewhere"), queue="default")
            assert await handle.result() == "elsewhere"
            assert await payloads(engine, "elsewhere") == ["elsewhere"]

    run(main)


def test_in_a_process(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(flow("process")) == "process"
            assert await payloads(engine, "process") == ["process", "process"]

    run(main)


def test_steps_that_must_not_happen_twice(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(flow("once")) == "once"
            assert await payloads(engine, "once") == ["once"]

    run(main)


def test_what_fails_publishes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(flow("fails")) == "failed"
            assert await payloads(engine, "fails") == []

    run(main)


def test_an_attempt_that_was_cut_off_publishes_nothing(place: Place) -> None:
    HUNG.clear()

    async def main() -> None:
        first = place.engine()
        await first.__aenter__()
        await first.start(flow("hangs"), id="r")
        await until(lambda: HUNG)
        await crash(first)
        await bury(place)
        async with place.engine() as engine:
            assert await engine.get("r").result() == "hangs"
            assert await payloads(engine, "hangs") == ["hangs"]

    run(main)


def test_outside_of_runs_only_the_checks_are_made() -> None:
    perdure.publish("nobody", {"hears": "it"})
