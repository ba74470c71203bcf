"""The program that the acceptance tests of queues attack: its steps write down when they are there.

python narrow.py URL
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time

import perdure
from perdure import Engine, Queue, Rate, step, workflow

#: In any second so many begin.
BEGIN, PER = 30, 1.0
NARROW = Queue("straits", concurrency=6, per_worker=4, per_key=2, rate=Rate(BEGIN, per=PER), fairness="key")


def write(what: str, key: str) -> None:
    line = {
        "what": what,
        "key": key,
        "time": time.time(),
        "pid": os.getpid(),
        "run": perdure.step_info().run_id,
    }
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@step
async def passes(key: str, seconds: float) -> None:
    write("begin", key)
    await asyncio.sleep(seconds)
    write("end", key)


@workflow
async def goes_through(key: str) -> str:
    """Two steps, and a wait in which it leaves memory."""
    await passes(key, 0.03)
    await asyncio.sleep(0.05)
    await passes(key, 0.03)
    return key


async def serve(url: str) -> None:
    async with Engine(url, queues=[NARROW], evict_after=0.01):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    asyncio.run(serve(sys.argv[1]))
