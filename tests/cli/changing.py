"""Code that changes between a run's start and its next replay: by CHANGE, as it is when a process imports this."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import perdure
from perdure import step, workflow

CHANGE = os.environ.get("CHANGE", "")
SIZE: Any = str if CHANGE == "type" else int


@step
async def weigh(item: str) -> SIZE:
    return len(item)


@step
async def label(item: str) -> str:
    return item


@workflow
async def parcel(items: list[str]) -> int:
    total = 0
    for place, item in enumerate(items):
        if CHANGE == "swapped" and place == 1:
            await label(item)
        if CHANGE == "other input":
            item = item.upper()
        total += await weigh(item)
    if CHANGE == "spins":
        while True:
            pass
    if CHANGE == "crashes":
        os._exit(7)
    if CHANGE == "raises":
        raise LookupError("no such parcel")
    if await perdure.receive("sent", bool):
        return total
    await asyncio.sleep(3600)
    return total


@workflow
async def letter(text: str) -> str:
    if CHANGE == "fails":
        raise LookupError("no such letter")
    await asyncio.Event().wait()  # of which no event tells
    return text


if CHANGE != "gone":

    @workflow
    async def postcard(text: str) -> str:
        return await perdure.receive("answer", str)


@workflow(pinned=True)
async def registered(text: str) -> str:
    await (label(text) if CHANGE != "swapped" else weigh(text))
    return await perdure.receive("answer", str)
