"""Steps one after the other and at once, in threads, retried; timers, time-outs, children, an exception."""

import asyncio

import perdure


@perdure.step
async def adds(left: int, right: int) -> int:
    return left + right


@perdure.step
def doubles(number: int) -> int:
    return number * 2


@perdure.step(retry=perdure.Retry(initial=0.001))
async def comes_second(number: int) -> int:
    if perdure.step_info().attempt < 2:
        raise OSError("not yet")
    return number


@perdure.step
async def refuses() -> None:
    raise ValueError("no")


@perdure.workflow
async def child(number: int) -> int:
    await asyncio.sleep(0.002)
    return await adds(number, 1)


@perdure.workflow
async def parent() -> list[int]:
    first = await adds(1, 2)
    both = await asyncio.gather(doubles(first), comes_second(first))
    kept = await perdure.start(child(10), id="kept")
    try:
        await refuses()
    except ValueError:
        both.append(await child(20))
    try:
        async with asyncio.timeout(0.005):
            await asyncio.sleep(3600)
    except TimeoutError:
        both.append(await doubles(4))
    return [first, *both, await kept.result()]


print(perdure.run(parent(), url="sqlite:///basics.db", id="parent"))
