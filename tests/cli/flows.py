"""Workflows for the tests of the command line to run."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import perdure
from perdure import Retry, step, workflow


@dataclass
class Order:
    item: str
    price: Decimal


@step
async def add(left: int, right: int) -> int:
    return left + right


@step(retry=Retry(max_attempts=2, initial=0.01))
async def flaky() -> str:
    if perdure.step_info().attempt == 1:
        raise ConnectionError("the line is \x1b[31mred")
    return "fine"


@step
def doze(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


@workflow
async def total(numbers: list[int], scale: int = 1) -> int:
    result = 0
    for number in numbers:
        result = await add(result, number)
    return result * scale


@workflow
async def echo(text: str) -> str:
    return text


@workflow
async def nothing() -> None:
    pass


@workflow
async def buy(order: Order) -> Order:
    return order


@workflow
async def wait(how_long: timedelta) -> str:
    await asyncio.sleep(how_long.total_seconds())
    return "done"


@workflow
async def parent(text: str) -> str:
    return await echo(text) + await flaky()


@workflow
async def fail(number: int) -> float:
    try:
        return 1 / number
    except ZeroDivisionError as error:
        raise ValueError("no zero, please") from error


@workflow
async def sleepy(seconds: float) -> str:
    return await doze(seconds)


@workflow
async def refused() -> None:
    open("/dev/null")  # which the guard forbids


@step(once=True)
async def pay(cents: int) -> str:
    if cents > 100:
        raise perdure.OutcomeUnknown("the bank didn't answer")
    return f"paid {cents}"


@step(retry=Retry(max_attempts=2, initial=0.001, on_exhausted="block"))
async def ship(item: str) -> str:
    if item == "anvil":
        raise ValueError("too heavy")
    return item


@workflow
async def order(cents: int, item: str) -> str:
    return await pay(cents) + ", shipped " + await ship(item)


@workflow
async def collects(count: int) -> list[int]:
    return [await perdure.receive("number", int) for _ in range(count)]


@workflow
async def forwards(to: str) -> str:
    try:
        await perdure.send("nobody", "hello", 0)
    except perdure.UnknownRunError:
        await perdure.send(to, "number", 7)
    return "sent"


NOT_A_WORKFLOW = 42


SEEN = threading.Event()
LOOK = None


@step
def read_pages() -> str:
    perdure.heartbeat({"page": 7})
    SEEN.wait(20)
    if LOOK is not None:
        LOOK()
    return "done"


@workflow
async def beat() -> str:
    return await read_pages()


STUMBLES = {"now"}


@step
async def stumbles_once(number: int) -> int:
    if STUMBLES:
        raise ValueError("not yet")
    return number


@workflow
async def stumbles() -> str:
    return f"{await add(0, 1)} and {await stumbles_once(2)}"


@step(queue="gpu")
async def render(text: str) -> str:
    perdure.heartbeat({"frame": 7})
    return text.upper()


@workflow
async def film(text: str) -> str:
    return await render(text)
