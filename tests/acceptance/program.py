"""The program that the acceptance tests attack: workflows of every shape, and steps that keep their own books.

    python program.py URL [--lease SECONDS] [--queues A,B]

Each step writes a line when its body begins and one when it ends into a ledger that the engine knows nothing of:
appended by one write and fsynced, so that a SIGKILL can't take it back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence

import perdure
from perdure import Engine, Retry, step, workflow


@contextlib.contextmanager
def in_the_books() -> Generator[None, None, None]:
    write_line("begin")
    yield
    write_line("end")


def write_line(what: str) -> None:
    info = perdure.step_info()
    line = {
        "what": what,
        "run": info.run_id,
        "step": info.step_id,
        "attempt": info.attempt,
        "pid": os.getpid(),
        "time": time.time(),
    }
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # In one write, which a SIGKILL can still cut short where a page of the file ends; hence a new line first.
        os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


# -- steps ----------------------------------------------------------------------------------------------


@step
async def fetch(number: int, seconds: float = 0.01) -> int:
    with in_the_books():
        await asyncio.sleep(seconds)
        return number * 2


@step
def compute(number: int, seconds: float = 0.01) -> int:
    with in_the_books():
        time.sleep(seconds)
        return number * number


@step(retry=Retry(max_attempts=3, initial=0.02, jitter=False))
async def flaky(number: int) -> int:
    with in_the_books():
        if perdure.step_info().attempt < 3:
            raise ConnectionError("not yet")
        return number + 1


@step(retry=Retry(max_attempts=3, initial=1.0, jitter=False))
async def late(number: int) -> int:
    """Fails at once, and succeeds a second later."""
    with in_the_books():
        if perdure.step_info().attempt < 2:
            raise ConnectionError("not yet")
        await asyncio.sleep(0.05)
        return number + 1


@step
def blob(kilobytes: int) -> str:
    with in_the_books():
        time.sleep(0.03)
        return "x" * (kilobytes * 1024)


@step(queue="gpu")
async def render(number: int, seconds: float = 0.02) -> int:
    with in_the_books():
        await asyncio.sleep(seconds)
        return number * 3


@step(queue="gpu", retry=Retry(max_attempts=3, initial=0.02, jitter=False))
def shade(number: int) -> int:
    """Fails once, in a thread."""
    with in_the_books():
        time.sleep(0.01)
        if perdure.step_info().attempt < 2:
            raise ConnectionError("not yet")
        return number + 5


# -- workflows ------------------------------------------------------------------------------------------


@workflow
async def leaf(number: int) -> int:
    first = await fetch(number)
    await asyncio.sleep(0.03)
    return first + await compute(number)


@workflow
async def mixed(number: int) -> int:
    """Sequential, parallel, sleeping, retrying and child parts, with sync and async steps."""
    total = 0
    for index in range(4):
        total += await fetch(number + index)
    total += sum(await asyncio.gather(*(compute(index) for index in range(4))))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch(index, 0.005 * index)) for index in range(4)]
        child = group.create_task(leaf(number))
    total += sum(task.result() for task in tasks) + child.result()
    await asyncio.sleep(0.05)
    other = await perdure.start(leaf(number + 1))
    total += await flaky(number)
    return total + await other.result()


@workflow
async def chain(length: int, seconds: float = 0.01) -> int:
    total = 0
    for index in range(length):
        total += await fetch(index, seconds)
    return total


@workflow
async def retried(number: int) -> int:
    return await late(await fetch(number))


@workflow
async def undoing(number: int) -> None:
    """Does things until it is cancelled, then undoes each of them."""
    done: list[int] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(waiting(number))
            for index in range(1000):
                done.append(await fetch(index, 0.02))
    except asyncio.CancelledError:
        for one in reversed(done):
            await compute(one, 0.002)
        raise


@workflow
async def film(number: int, seconds: float = 0.02) -> int:
    """Steps here and in the queue "gpu", in turn and at once."""
    total = await render(number, seconds) + await fetch(number)
    total += sum(await asyncio.gather(*(render(index, seconds) for index in range(3)), shade(number)))
    return total + await compute(number)


@workflow
async def rendered(number: int, seconds: float) -> int:
    return await render(number, seconds)


@workflow
async def chosen(number: int) -> int:
    """A step that is sent to a queue by this call only."""
    return await compute.with_options(queue="gpu")(number)


@workflow
async def waiting(number: int) -> int:
    await asyncio.sleep(3600)
    return number


@workflow
async def echo(text: str) -> str:
    return text


@workflow
async def hoard(steps: int, kilobytes: int) -> int:
    """Fills the disk: each step's result is recorded whole."""
    total = 0
    for _ in range(steps):
        total += len(await blob(kilobytes))
    return total


# -- the worker -----------------------------------------------------------------------------------------


async def serve(url: str, lease: float, queues: Sequence[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # on a busy machine many kills in a row come before anything is recorded: they aren't the runs' fault
    async with Engine(url, lease=lease, queues=queues, max_recoveries=1000):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--queues", default="default")
    arguments = parser.parse_args()
    level = os.environ.get("PERDURE_LOG", "WARNING")
    logging.basicConfig(level=level, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    asyncio.run(serve(arguments.url, arguments.lease, arguments.queues.split(",")))
