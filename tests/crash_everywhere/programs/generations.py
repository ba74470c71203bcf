"""Chains of generations with children and messages, paused and as a child; a retry, and forks."""

import asyncio
from contextlib import suppress
from pathlib import Path

import perdure
from perdure import Engine

MENDED = Path("mended")


@perdure.step
async def weighs(item: str) -> int:
    return len(item)


@perdure.step
async def packs(item: str) -> str:
    if not MENDED.exists():
        raise ValueError(f"no box for {item}")
    return f"[{item}]"


@perdure.workflow
async def weighing(item: str) -> int:
    await asyncio.sleep(0.001)
    return await weighs(item)


@perdure.workflow
async def scales(total: int, left: int) -> int:
    """Each generation takes one message."""
    item = await perdure.receive("item", str)
    total += sum(await asyncio.gather(weighing(item), weighs(item)))
    if left > 1:
        perdure.continue_as(scales(total, left - 1))
    return total


@perdure.workflow
async def parcel(item: str) -> str:
    weight = await weighing(item)
    await asyncio.sleep(0.001)
    return f"{await packs(item)} {weight} {await perdure.receive('label', str)}"


@perdure.workflow
async def around(total: int) -> int:
    return await scales(total, 2)


async def weigh(engine: Engine) -> None:
    handle = await engine.start(scales(0, 3), id="scales")
    with suppress(perdure.RunEndedError, perdure.RunConflictError):
        await handle.send("item", "one", key="1")
        await handle.pause("a break")
        await handle.send("item", "three", key="2")
        await handle.send("item", "seven", key="3")
        await handle.resume()
    print(await handle.result())
    outer = await engine.start(around(100), id="outer")
    with suppress(perdure.RunEndedError):
        inner = engine.get(f"outer/{scales.name}#1")
        while not (await engine.get("outer").status()).final:
            with suppress(perdure.UnknownRunError):
                await inner.send("item", "a", key="1")
                await inner.send("item", "bb", key="2")
                break
            await asyncio.sleep(0.002)
    print(await outer.result())


async def pack(engine: Engine) -> None:
    handle = await engine.start(parcel("pear"), id="parcel")
    with suppress(perdure.RunEndedError):
        await handle.send("label", "fragile", key="1")
    with suppress(perdure.RunFailed):
        await handle.result()
    MENDED.write_text("")
    with suppress(perdure.RunConflictError):
        await handle.retry()
    print(await handle.result())
    fork = await handle.fork(id="fork")
    print(await fork.result())
    heavy = await handle.fork(id="heavy", at=packs.name)
    print(await heavy.result())


async def main() -> None:
    async with Engine("sqlite:///runs.db") as engine:
        await weigh(engine)
        await pack(engine)


asyncio.run(main())
