"""What the fleet's tests put under load: a worker, and a client that sends.

    python fleet_program.py work URL [--lease SECONDS]
    python fleet_program.py send URL PLAN RECEIPTS

The sender reads whom to send to from PLAN, which grows while it works, and writes into RECEIPTS what was acknowledged.
It may be killed, too: the next one begins a little before where the last one stood, so that it repeats what was
acknowledged already.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from program import compute, fetch, flaky, leaf

import perdure
from perdure import Engine, workflow
from perdure.errors import StoreError

AGAIN = 2  # how many acknowledged messages of each run are sent once more after a restart


@workflow(name="fleet.journey")
async def journey(number: int, notes: int, bumps: int) -> dict[str, Any]:
    """Steps in a row and side by side, timers, a child, retries, messages and updates."""
    bumped: list[int] = []

    @perdure.on_update
    async def bump(by: int) -> int:
        square = await compute(by, 0.002)
        bumped.append(by)  # in the turn in which it ends: a run that ends cuts its handlers off
        return square

    total = await fetch(number)
    total += sum(value or 0 for value in await perdure.map(fetch, range(number, number + 4), concurrency=2))
    await asyncio.sleep(0.1 + number % 7 / 10)
    child = await perdure.start(leaf(number))
    received: list[int] = []
    for _ in range(notes):
        received.append(await perdure.receive("note", int))
        total += await compute(received[-1], 0.005)
    total += await flaky(number)
    total += await child.result()
    await perdure.until(lambda: len(bumped) >= bumps)
    return {"total": total, "notes": received, "bumps": sorted(bumped)}


def expected(number: int, notes: int, bumps: int) -> dict[str, Any]:
    """What a journey's result is, whatever happens on the way."""
    total = 2 * number + sum(2 * n for n in range(number, number + 4))
    total += sum(note * note for note in range(notes))
    total += number + 1 + 2 * number + number * number
    return {"total": total, "notes": [*range(notes)], "bumps": [*range(bumps)]}


# -- the worker -----------------------------------------------------------------------------------------


async def work(url: str, lease: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Engine(url, lease=lease, evict_after=0.5, max_recoveries=1000):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


# -- the sender -----------------------------------------------------------------------------------------


class Sender:
    """Sends each run its notes, in order, and its bumps."""

    def __init__(self, engine: Engine, plan: Path, receipts: Path) -> None:
        self.engine = engine
        self.plan = plan
        self.receipts = os.open(receipts, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self.done: Counter[tuple[str, str]] = Counter()
        for line in receipts.read_bytes().splitlines():
            if line.endswith(b"}"):
                receipt = json.loads(line)
                place = receipt["run"], receipt["what"]
                self.done[place] = max(self.done[place], receipt["number"] + 1)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            with self.plan.open() as plan:
                while True:
                    line = plan.readline()
                    if line.endswith("\n"):
                        item = json.loads(line)
                        for what in ("note", "bump"):
                            group.create_task(self.send_all(item["id"], what, item[what + "s"]))
                    else:
                        await asyncio.sleep(0.05)

    async def send_all(self, run: str, what: str, count: int) -> None:
        handle = self.engine.get(run)
        begin = self.done[run, what]
        for number in range(max(0, begin - AGAIN) if begin < count else count, count):
            while True:
                try:
                    if what == "note":
                        await handle.send("note", number, key=f"note-{number}")
                    else:
                        await handle.update("bump", number, key=f"bump-{number}", timeout=20)
                    break
                except (StoreError, TimeoutError) as error:
                    logging.getLogger("sender").warning("%s %d to %s again: %s", what, number, run, error)
            self.receipt(run, what, number)
            await asyncio.sleep(random.uniform(0.0, 0.3))

    def receipt(self, run: str, what: str, number: int) -> None:
        line = {"run": run, "what": what, "number": number}
        os.write(self.receipts, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(self.receipts)


async def send(url: str, plan: Path, receipts: Path) -> None:
    async with Engine(url, worker=False) as engine:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await Sender(engine, plan, receipts).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["work", "send"])
    parser.add_argument("url")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--lease", type=float, default=15.0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    logging.getLogger("perdure.postgres").setLevel(logging.INFO)
    if arguments.role == "work":
        asyncio.run(work(arguments.url, arguments.lease))
    else:
        asyncio.run(send(arguments.url, *arguments.files))
