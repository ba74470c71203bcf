"""What the restore drill works with: an outside world that takes each order once, by its key.

Its book is a file that no restore sets back. Whoever calls with a key that is in it gets the first answer again, and
the book shows that somebody has called.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from perdure import idempotency_key, step, step_info, workflow


def book(**line: object) -> None:
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, b"\n" + json.dumps({**line, "pid": os.getpid()}).encode() + b"\n")
    finally:
        os.close(file)


async def may(number: int) -> None:
    """The outside world takes so many orders of each run, and then keeps callers waiting."""
    while number >= int(Path("bound").read_text() or 0):
        await asyncio.sleep(0.02)


def call() -> None:
    info = step_info()
    book(run=info.run_id, step=info.step_id, key=idempotency_key())


@step
async def charge(number: int) -> int:
    await may(number)
    call()
    return number


@step(queue="gpu")
async def render(number: int) -> int:
    await may(number)
    call()
    return number


@step(once=True)
async def wire(number: int, gate: str) -> int:
    """Money that mustn't be sent twice, to a bank that knows no keys. It goes out when the gate is open."""
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    call()
    return number


@workflow
async def orders(count: int) -> int:
    return sum([await charge(number) for number in range(count)])


@workflow
async def films(count: int) -> int:
    return sum([await render(number) for number in range(count)])


@workflow
async def payout(number: int, gate: str) -> int:
    return await wire(number, gate)
