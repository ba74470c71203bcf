"""Events that runs, steps and people publish: waited for, and starting other runs at once and in batches."""

import asyncio
from typing import Any

import perdure


@perdure.step
async def tells(number: int) -> None:
    perdure.publish("told", {"n": number})


@perdure.workflow
async def publishes() -> None:
    for number in range(2):
        perdure.publish("said", {"n": number, "odd": number % 2 == 1})
        await tells(number)


@perdure.workflow
async def listens() -> list[int]:
    odd = asyncio.create_task(perdure.event("said", where={"odd": True}))
    heard = [(await perdure.event("told"))["n"] for _ in range(2)]
    try:
        await perdure.event("never", timeout=0.01)
    except TimeoutError:
        heard.append(-1)
    return [*heard, (await odd)["n"], await perdure.event("outside")]


@perdure.workflow(on=perdure.Event("said"))
async def each(said: dict[str, Any]) -> int:
    number: int = said["n"]
    return number


@perdure.workflow(on=perdure.Event("told", batch=2, within=60))
async def together(told: list[dict[str, int]]) -> list[int]:
    return [one["n"] for one in told]


async def main() -> None:
    async with perdure.Engine("sqlite:///publications.db") as engine:
        handle = await engine.start(listens(), id="listens")
        await engine.run(publishes(), id="publishes")
        await engine.publish("outside", 7, key="k")
        print(await handle.result())
        started = []
        while len(started) < 3 or any(not run.status.final for run in started):
            await asyncio.sleep(0.005)
            started = [run async for run in engine.runs() if run.id not in ("listens", "publishes")]
        print(sorted([str(await engine.get(run.id).result()) for run in started]))


asyncio.run(main())
