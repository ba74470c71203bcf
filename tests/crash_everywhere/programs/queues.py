"""Runs that stand in line, take turns by key, keep a slot over generations, and are one for several starts."""

import asyncio

import perdure
from perdure import Queue

Queue("narrow", concurrency=2, per_key=1, priority=True, fairness="key")


@perdure.step
async def says(word: str) -> str:
    return word.upper()


@perdure.workflow
async def counts(word: str, left: int) -> str:
    await says(f"{word}{left}")
    if left:
        perdure.continue_as(counts(word, left - 1))
    return word


@perdure.workflow
async def parent() -> list[str]:
    children = [
        await perdure.start(counts(word, 1), id=word, queue="narrow", key=word[0], priority=len(word))
        for word in ("a", "ab", "b", "c")
    ]
    return [await child.result() for child in children]


@perdure.workflow(singleton=True)
async def alone() -> str:
    return await says("alone")


async def main() -> None:
    async with perdure.Engine("sqlite:///queues.db", queues=["default", "narrow"]) as engine:
        print(await engine.run(parent(), id="parent"))
        one = await engine.start(alone(), id="alone")
        print(await one.result())
        late = await engine.start(counts("late", 0), id="late", queue="narrow", dedup="d", debounce=0.05)
        print(await late.result())


asyncio.run(main())
