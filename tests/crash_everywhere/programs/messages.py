"""Messages with a start and after it, of wrong types, left over, between runs; waits with a time, and for a state."""

import asyncio
from contextlib import suppress

import perdure
from perdure import Message


@perdure.step
async def packs(item: str) -> str:
    return f"packed {item}"


@perdure.workflow
async def clerk() -> list[int]:
    seen = []
    for _ in range(2):
        sender, number = await perdure.receive("question", tuple[str, int])
        seen.append(number)
        await perdure.send(sender, "answer", number + 1)
    return seen


@perdure.workflow
async def shop(wanted: int) -> list[object]:
    items: list[str] = []

    async def collects() -> None:
        while True:
            items.append(await packs(await perdure.receive("item", str)))

    collecting = asyncio.create_task(collects())
    await perdure.until(lambda: len(items) >= wanted)
    collecting.cancel()
    child = await perdure.start(clerk(), id="clerk")
    answers: list[object] = []
    for number in (1, 2):
        await child.send("question", (perdure.info().id, number))
        answers.append(await perdure.receive("answer", int))
    with suppress(TimeoutError):
        await perdure.receive("never", timeout=0.005)
    try:
        await perdure.send("nobody", "hello", None)
    except perdure.UnknownRunError:
        answers.append("nobody is there")
    return [*items, *answers, await child.result()]


async def main() -> None:
    async with perdure.Engine("sqlite:///messages.db") as engine:
        first = [Message("item", "tea", "1"), Message("item", 5, "2"), Message("unread", None, "3")]
        handle = await engine.start(shop(2), id="shop", messages=first)
        await handle.send("item", "milk", key="4")
        print(await handle.result())
        info = await handle.info()
        print([stray.value for stray in info.set_aside], [stray.name for stray in info.undelivered])


asyncio.run(main())
