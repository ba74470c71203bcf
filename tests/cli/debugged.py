"""Workflows that tests go through with `perdure debug`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

import perdure
from perdure import step, workflow


@step
async def fetch(url: str) -> str:
    Path("executed").touch()  # which a replay mustn't do
    return f"page of {url}"


async def last_word(url: str) -> str:
    page = await fetch(url)
    words = page.split()
    return words[-1]


@workflow
async def research(topic: str) -> str:
    found = []
    for part in ("one", "two"):
        name = await last_word(f"{topic}/{part}")
        found.append(name)
    both = await asyncio.gather(fetch("x"), last_word("y"))
    if os.environ.get("DEBUGGED_BREAK"):
        breakpoint()
    await asyncio.sleep(0.01)
    if topic == "unknown":
        raise ValueError("no such topic")
    if topic == "long":
        await asyncio.gather(perdure.receive("go"), last_word("z"), asyncio.sleep(3600))
    return ", ".join(found + both)


@workflow
async def changes() -> str:
    first = await fetch("a")
    second = await fetch("c" if os.environ.get("DEBUGGED_CHANGED") else "b")
    return first + second


@workflow
async def careless() -> str:
    try:
        with open("executed", "w") as file:
            file.write("by a workflow")
    except perdure.PerdureError as refused:
        told = type(refused).__name__
        return f"refused with {told}"
    return "never"


@dataclass
class Pages:
    read: list[str] = field(default_factory=list)


@perdure.entity
class Shelf:
    state: Pages

    async def add(self, url: str) -> int:
        self.state.read.append(await fetch(url))
        return len(self.state.read)
