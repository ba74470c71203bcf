"""A worker whose steps write chapters word by word, as models do; readers see each word at once.

python writers.py URL
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import perdure
from perdure import Engine, step, workflow

WORDS = 60
GO = Path("go")


def words(chapter: int) -> list[str]:
    return [f"{chapter}.{number}" for number in range(WORDS)]


@step
async def writes(chapter: int) -> int:
    told = words(chapter)
    for number, word in enumerate(told):
        while number == WORDS // 2 and not GO.exists():
            await asyncio.sleep(0.01)
        perdure.emit("tokens", word)
        await asyncio.sleep(0.01)
    return len(told)


@workflow
async def book() -> int:
    """Two chapters at once, and then a third."""
    first = await asyncio.gather(writes(1), writes(2))
    return sum(first) + await writes(3)


async def main(url: str) -> None:
    async with Engine(url, lease=5.0):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
