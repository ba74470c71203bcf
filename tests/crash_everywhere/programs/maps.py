"""A map over steps, over children, over an async function with failures, and one that ends early; and a poll."""

import perdure


@perdure.step
async def doubles(number: int) -> int:
    return number * 2


@perdure.step
async def refuses_threes(number: int) -> int:
    if number % 3 == 0:
        raise ValueError(number)
    return number


@perdure.step
async def looks(number: int) -> int | None:
    return number if number == 2 else None


@perdure.workflow
async def child(number: int) -> int:
    return await doubles(number)


async def both(number: int) -> int:
    return await doubles(number) + await refuses_threes(number)


@perdure.workflow
async def maps() -> list[int | None]:
    looked = 0

    async def look() -> int | None:
        nonlocal looked
        looked += 1
        return await looks(looked)

    found = await perdure.poll(look, every=0.001, timeout=60)
    doubled = await perdure.map(doubles, range(5), concurrency=2)
    children = await perdure.map(child, (3, 4))
    some = await perdure.map(both, range(1, 6), concurrency=1, max_failure_ratio=0.5)
    try:
        await perdure.map(both, range(1, 6), concurrency=1)
    except perdure.MapFailed as error:
        some.results.append(error.result.statuses.count("skipped"))
    return [found, *doubled, *children, *some]


print(perdure.run(maps(), url="sqlite:///maps.db", id="maps"))
