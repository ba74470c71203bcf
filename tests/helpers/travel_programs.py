"""Workflows whose past is looked at. Their comments name lines: tests look for those."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import perdure

try:
    import anyio
except ImportError:  # pragma: no cover - it is among the packages of the tests
    anyio = None  # type: ignore[assignment]

#: How the code differs from what it was, for runs that were recorded before.
changed: dict[str, Any] = {}
if "TRAVEL_WAY" in os.environ:
    changed["way"] = os.environ["TRAVEL_WAY"]


@perdure.step
async def double(number: int) -> int:
    return number * 2


@perdure.step
async def refuse(why: str) -> None:
    raise ValueError(why)


@dataclass
class Order:
    number: int
    password: str = "hunter2"
    inner: str = field(default="kept out", repr=False)


class Hostile:
    """Whatever is asked of it goes wrong."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        raise SystemExit

    def __len__(self) -> int:
        raise MemoryError

    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise SystemExit


class Spinning:
    def __repr__(self) -> str:
        while True:
            pass


@perdure.workflow
async def collects(count: int) -> list[int]:
    found: list[int] = []
    for number in range(count):
        found.append(await double(number))  # collects
    return found


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield await double(number)  # yields


async def branch(name: str, count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)  # adds
    return total


async def slow_branch(name: str) -> str:
    await asyncio.sleep(0.02)  # sleeps
    return name


@perdure.workflow
async def branches() -> list[Any]:
    out: list[Any] = []
    async for number in numbers(2):  # goes through
        out.append(number)
    out += await asyncio.gather(branch("a", 2), slow_branch("b"), double(21))  # gathers
    async with asyncio.TaskGroup() as group:  # groups
        group.create_task(branch("c", 1), name="the c")
        group.create_task(branch("d", 2))
    if anyio is not None:
        async with anyio.create_task_group() as anyios:
            anyios.start_soon(branch, "e", 2)
            await double(7)  # in the group
    queue: asyncio.Queue[int] = asyncio.Queue()
    taker = asyncio.create_task(queue.get())
    await double(8)
    queue.put_nowait(1)
    out.append(await taker)
    return out


@perdure.workflow
async def handles() -> str:
    try:
        await refuse("no")
    except ValueError:
        await asyncio.sleep(0.01)  # handles
    order = Order(7)
    await double(1)
    raise LookupError(f"order {order.number}")  # raises


@perdure.workflow
async def hostile() -> int:
    broken = Hostile("inside")
    spinning = Spinning()
    huge = ["x" * 10_000_000] * 100_000
    large = 10**100_000
    text = "<script>alert(1)</script>"
    round: list[Any] = []
    round.append(round)
    api_key = "sk-very-secret"
    await double(len(huge) + len(text) + (large > 0))
    del broken, spinning, api_key
    return 1


@perdure.workflow
async def changes() -> int:
    first = await double(1)
    if changed.get("way") == "spins":
        while True:
            first += 1  # spins
    if changed.get("way") == "sticks":
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter for ages
    if changed.get("way") == "exits":
        os._exit(3)
    if changed.get("way") == "other":
        await refuse("another way")
    if changed.get("way") == "reads":
        with open(__file__) as file:
            file.read()
    second = await double(first)
    return await double(second)


@perdure.workflow(guard=False)
async def unguarded() -> int:
    first = await double(1)
    if changed.get("way") == "reads":
        with open(__file__) as file:
            file.read()
    return await double(first)


@perdure.workflow
async def goes_on(generation: int) -> int:
    number = await double(generation)
    if generation < 2:
        perdure.continue_as(goes_on(generation + 1))
    return number


@perdure.entity
class Counter:
    state: dict[str, int]

    async def add(self, number: int) -> int:
        more = await double(number)
        self.state["sum"] = self.state.get("sum", 0) + more
        await asyncio.sleep(0.01)  # counts
        return self.state["sum"]


async def talkative(name: str) -> None:
    texts = [name * 100] * 10
    await asyncio.sleep(100)
    del texts


@perdure.workflow
async def crowded(count: int) -> None:
    crowd = asyncio.gather(*(talkative(str(number)) for number in range(count)))
    await double(1)
    crowd.cancel()


def line_of(comment: str) -> int:
    """The number of the line that ends with this comment."""
    with open(__file__, encoding="utf-8") as file:
        return next(number for number, line in enumerate(file, 1) if line.rstrip().endswith(f"# {comment}"))
