"""The program that the acceptance tests of published events attack.

    python subscribed.py URL

Runs listen to all events or to those of one lane; workflows are started by each event, by batches, and by the last of
several. Whatever runs publish themselves is heard by others.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import perdure
from perdure import Engine, Event, workflow

LANES = 4


@workflow
async def hears_all(count: int) -> list[int]:
    return [(await perdure.event("tick"))["n"] for _ in range(count)]


@workflow
async def hears_a_lane(lane: int, count: int) -> list[int]:
    heard = [(await perdure.event("tick", where={"lane": lane}))["n"] for _ in range(count)]
    for number in heard:
        perdure.publish("echo", number, key=f"{lane}-{number}")
    return heard


@workflow(on=Event("tick"))
async def each(tick: dict[str, int]) -> int:
    return tick["n"]


@workflow(on=Event("tick", where={"lane": [0, 1]}))
async def half(tick: dict[str, int]) -> int:
    return tick["n"]


@workflow(on=Event("tick", batch=7, within=0.5, by="lane"))
async def batches(ticks: list[dict[str, int]]) -> list[int]:
    assert len({tick["lane"] for tick in ticks}) == 1
    return [tick["n"] for tick in ticks]


@workflow(on=Event("echo"))
async def echoes(number: int) -> int:
    return number


def tick(number: int) -> dict[str, Any]:
    return {"n": number, "lane": number % LANES}


async def main(url: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    async with Engine(url, lease=5.0, evict_after=0.2):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
