"""A batch of any size by a sliding window of child runs: never more than so many at once, and a short history.

    python examples/sliding_window.py [records]

The parent starts a child for each record, and the next one as soon as any of them ends, fast ones and slow ones mixed.
After a hundred it goes on in a new generation with the place where it is, so a million records are no longer a history.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile

import perdure
from perdure import Engine, step, workflow

WINDOW = 8
GENERATION = 100


@step
async def work(record: int) -> int:
    await asyncio.sleep(0.02 if record % 10 == 0 else 0.001)
    return record % 7


@workflow
async def handle_record(record: int) -> int:
    return await work(record)


@workflow
async def batch(first: int, end: int, total: int = 0) -> int:
    running: set[asyncio.Task[int]] = set()
    last = min(first + GENERATION, end)
    for record in range(first, last):
        if len(running) == WINDOW:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            total += sum(task.result() for task in done)
        running.add(asyncio.create_task(one(record)))
    total += sum(await asyncio.gather(*running))
    if last < end:
        perdure.continue_as(batch(last, end, total))
    return total


async def one(record: int) -> int:
    return await handle_record(record)


async def main(url: str, records: int) -> None:
    async with Engine(url) as engine:
        total = await engine.run(batch(0, records), id="batch-1")
        info = await engine.get("batch-1").info()
        print(
            f"{records} records, total {total}, as it should be: {total == sum(n % 7 for n in range(records))}"
        )
        print(f"{info.generation} generations, {info.events} events in the last")
        began = {"ChildStarted": 1, "ChildEnded": -1}
        most = running = 0
        async for event in engine.get("batch-1").history(generation=1):
            running += began.get(type(event).__name__, 0)
            most = max(most, running)
        print(f"at most {most} children at once")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(f"sqlite:///{place}/batch.db", int(sys.argv[1]) if len(sys.argv) > 1 else 250))
