"""A workflow with handlers, for the tests of the command line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import perdure
from perdure import step, workflow


@dataclass
class Line:
    item: str
    count: int


@step
async def reserve(item: str) -> str:
    return item.upper()


@workflow
async def cart() -> list[Line]:
    lines: list[Line] = []
    closed = asyncio.Event()

    def check(item: str, count: int = 1) -> None:
        if count < 1:
            raise ValueError("count must be at least 1")

    @perdure.on_update(validator=check)
    async def add(item: str, count: int = 1) -> Line:
        if item == "nothing":
            raise LookupError("there is\nnothing")
        lines.append(Line(await reserve(item), count))
        return lines[-1]

    @perdure.on_update
    async def wait() -> None:
        await asyncio.sleep(3600)

    @perdure.on_update
    def close() -> None:
        closed.set()

    @perdure.on_query
    def content(least: int = 0) -> list[Line]:
        return [line for line in lines if line.count >= least]

    await closed.wait()
    return lines
