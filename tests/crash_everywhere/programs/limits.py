"""Steps under rate limits that have to wait, that are turned away, and that settle."""

import asyncio
import pathlib

import perdure
from perdure import Rate, RateLimit

API = RateLimit("api", requests=Rate(6, per=0.6, burst=1), tokens=Rate(1000, per=60, burst=500))


@perdure.step(limit=API.cost(tokens=lambda word: 10 * len(word)))
async def asks(word: str) -> str:
    perdure.settle(API, tokens=len(word))
    return word.upper()


@perdure.step(limit=API)
def closed_at_first() -> str:
    mark = pathlib.Path("asked")
    if not mark.exists():
        mark.touch()
        raise perdure.RateLimited(after=0.11)
    return "open"


@perdure.workflow
async def limited() -> list[str]:
    return [*await asyncio.gather(asks("a"), asks("bb")), await closed_at_first()]


print(perdure.run(limited(), url="sqlite:///limits.db", id="limits"))
