"""A program with runs that take their worker down, among others: what tests/acceptance/test_poison.py attacks.

python poison.py URL [--lease SECONDS] [--max-recoveries N]
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
import time

import perdure
from perdure import Engine, step, workflow


@step
async def exits(seconds: float) -> None:
    await asyncio.sleep(seconds)
    os._exit(3)


@step
def crashes(seconds: float) -> None:
    """A segmentation fault, as extension modules have them."""
    time.sleep(seconds)
    ctypes.string_at(0)


@step
async def spins() -> None:
    """Never lets the event loop go: the worker can't keep its lease any more."""
    while True:
        pass


@step
def hogs() -> None:
    """Takes all the memory there is."""
    hoard: list[bytes] = []
    while True:
        hoard.append(b"x" * (8 << 20))
        time.sleep(0.02)


@step
async def works(number: int, seconds: float = 0.01) -> int:
    await asyncio.sleep(seconds)
    return number


@workflow
async def poison(kind: str, seconds: float = 0.0) -> None:
    """Records something, and is deadly from then on."""
    await works(0)
    match kind:
        case "exit":
            await exits(seconds)
        case "crash":
            await crashes(seconds)
        case "spin":
            await spins()
        case _:
            await hogs()


@workflow
async def good(number: int) -> int:
    total = 0
    for index in range(5):
        total += await works(number + index)
        await asyncio.sleep(0.02)
    return total


@workflow
async def patient(number: int, seconds: float) -> int:
    """One step that takes longer than its worker lives beside a killer."""
    return await works(number, seconds)


@workflow
async def asleep(number: int) -> int:
    await perdure.receive("wake")
    return number


async def serve(url: str, lease: float, deaths: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Engine(url, lease=lease, max_recoveries=deaths):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--lease", type=float, default=3.0)
    parser.add_argument("--max-recoveries", type=int, default=3)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    asyncio.run(serve(arguments.url, arguments.lease, arguments.max_recoveries))
