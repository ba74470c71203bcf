"""Large events as blobs, with a secret: inputs, results, messages, the next generation's. Then a collection."""

import asyncio
import os

import perdure

os.environ["CRASH_KEY"] = "canary-of-crashes"


@perdure.step
async def reads(size: int, key: perdure.Secret[str]) -> str:
    assert key.reveal().startswith("canary")
    return "r" * size


@perdure.workflow
async def counts(text: str) -> int:
    return len(text)


@perdure.workflow
async def large(text: str, key: perdure.Secret[str], round: int = 1) -> list[int]:
    first, second = await asyncio.gather(reads(5000, key), reads(6000, key))
    length = await counts(second)
    message = await perdure.receive("more", str)
    if round == 1:
        perdure.continue_as(large(first + message, key, 2))
    return [len(text), length, len(message)]


async def main() -> None:
    blobs = perdure.Blobs("blobs", above=4096, grace=3600.0)
    async with perdure.Engine("sqlite:///blobs.db", blobs=blobs) as engine:
        handle = await engine.start(large("t" * 5000, perdure.Secret.env("CRASH_KEY")), id="large")
        for number in range(2):
            await handle.send("more", "m" * 7000, key=str(number))
        print(await handle.result())
        print((await engine.collect_blobs()).removed)


asyncio.run(main())
