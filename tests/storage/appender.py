"""A process that appends until it is told to stop, or killed. Run by the tests of several processes.

Prints each thing only after the store has acknowledged it, a line each, so that what is on the pipe is
what was acknowledged.

    appender.py DATABASE NAME RUNS EVENTS
"""

from __future__ import annotations

import asyncio
import sys

from perdure.storage.records import Appended
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance.bench import NOW, Bench


async def main(path: str, name: str, runs: int, events: int) -> None:
    bench = Bench(lambda: SqliteStore(path))
    await bench.open()
    worker = await bench.worker(name=name)

    async def drive(number: int) -> None:
        row = await bench.make(f"{name}-{number}", owner=worker)
        for n in range(2, events + 2):
            answer = await bench.append(row, b"%s-%d" % (name.encode(), n), expected=n - 1)
            assert answer == Appended(n), answer
            print("event", row.id, n, flush=True)
            if n % 10 == 0:
                await bench.store.send("shared", b"%s-%d-%d" % (name.encode(), number, n), now=NOW)
                print("mail", f"{name}-{number}-{n}", flush=True)

    await asyncio.gather(*(drive(number) for number in range(runs)))
    await bench.close()


if __name__ == "__main__":
    _, path, name, runs, events = sys.argv
    asyncio.run(main(path, name, int(runs), int(events)))
