"""Updates with validators, steps, timers and children: early ones, several at once, some racing the end; queries."""

import asyncio

import perdure
from perdure import Engine


@perdure.step
async def reserves(item: str) -> str:
    return item.upper()


@perdure.workflow
async def delivery(item: str) -> str:
    return await reserves(f"{item} delivered")


@perdure.workflow
async def cart() -> list[str]:
    items: list[str] = []
    closed = asyncio.Event()

    def check(item: str) -> None:
        if item == "forbidden":
            raise ValueError("not for sale")

    @perdure.on_query
    def content() -> list[str]:
        return sorted(items)

    @perdure.on_update(validator=check)
    async def add(item: str) -> str:
        if item == "sold out":
            raise LookupError(item)
        await asyncio.sleep(0.001)
        items.append(await reserves(item))
        items.append(await delivery(item))
        return item

    @perdure.on_update
    async def lasts() -> None:
        await asyncio.sleep(3600)

    @perdure.on_update
    def close() -> int:
        closed.set()
        return len(items)

    await closed.wait()
    return sorted(items)


async def answer(update):
    try:
        return await update
    except (LookupError, perdure.UpdateRejected, perdure.RunEndedError) as error:
        return type(error).__name__


async def main() -> None:
    async with Engine("sqlite:///handlers.db") as engine:
        handle = await engine.start(cart(), id="cart")
        answers = await asyncio.gather(
            *(
                answer(handle.update("add", item, key=item))
                for item in ("milk", "eggs", "forbidden", "sold out")
            )
        )
        print(answers, await handle.query("content"))
        lasting = asyncio.ensure_future(answer(handle.update("lasts", key="lasts")))
        await asyncio.sleep(0)
        print(await answer(handle.update("close", key="close")), await lasting)
        print(await handle.result(), await answer(handle.update("add", "milk", key="milk")))


asyncio.run(main())
