"""Steps in another queue: at once, in threads, retried, emitting, given up; with a child that has one, too."""

import asyncio

import perdure


@perdure.step(queue="gpu")
async def renders(word: str) -> str:
    perdure.emit("frames", word)
    await asyncio.sleep(0)
    return word.upper()


@perdure.step(queue="gpu", retry=perdure.Retry(initial=0.001))
def stumbles(word: str) -> str:
    perdure.heartbeat({"word": word})
    if perdure.step_info().attempt < 2:
        raise OSError("once more")
    return f"{word} {perdure.step_info().detail}"


@perdure.step(queue="gpu")
async def lasts() -> None:
    await asyncio.sleep(60)


@perdure.step
async def cuts(words: list[str]) -> str:
    return " ".join(words)


@perdure.workflow
async def scene(word: str) -> str:
    return await renders(word)


@perdure.workflow
async def film() -> str:
    words = await asyncio.gather(renders("a"), stumbles("b"), scene("c"))
    try:
        async with asyncio.timeout(0.01):
            await lasts()
    except TimeoutError:
        words.append(await cuts.with_options(queue="gpu", key="late")(["late"]))
    return await cuts(words)


async def main() -> None:
    async with perdure.Engine("sqlite:///film.db", queues=("default", "gpu")) as engine:
        handle = await engine.start(film(), id="film")
        print(await handle.result())
        print([item.value async for item in handle.stream("frames")])


asyncio.run(main())
