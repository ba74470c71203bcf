"""Streams, attributes and patched: items of workflow and steps, in threads, retried; a reader to the end."""

import asyncio

import perdure


@perdure.step(retry=perdure.Retry(initial=0.001))
async def says(word: str) -> str:
    for part in range(3):
        perdure.emit("words", f"{word}{part}")
        await asyncio.sleep(0)
        if part == 1 and perdure.step_info().attempt < 2:
            raise OSError("once more")
    return word


@perdure.step
def says_in_thread(word: str) -> str:
    perdure.emit("words", word)
    return word


@perdure.workflow
async def tells() -> list[str]:
    perdure.set_attributes(stage="begun", tags=["a", "b"])
    perdure.emit("words", "begin")
    told = [await says("x"), await says_in_thread("y")]
    perdure.set_attributes(stage="half", tags=None)
    if perdure.patched("third"):
        told.append(await says_in_thread("z"))
    await asyncio.sleep(0.002)
    perdure.emit("words", "end")
    perdure.set_attributes(stage="done")
    return told


async def main() -> None:
    async with perdure.Engine("sqlite:///streams.db", version="1") as engine:
        handle = await engine.start(tells(), id="tells", attributes={"kind": "story"})
        print(await handle.result())
        print([item.value async for item in handle.stream("words")])
        print((await handle.info()).attributes)


asyncio.run(main())
