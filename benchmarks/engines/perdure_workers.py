"""Perdure with workers in processes of their own: one and two, and messages between processes."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import apsw
import psycopg

import perdure
from benchmarks.engines.measuring import Figures, Sizes, main, spread
from benchmarks.engines.with_perdure import count, url_of

STEPS = 10

#: With the settings that the store has, and for its reason: once statistics said that many runs are driven, this look
#: read the whole table, in which they have all ended: five times as much work as all else that the server did.
_BY_INDEX = """
SET enable_seqscan = off; SET enable_bitmapscan = off; SET cpu_tuple_cost = 1; SET cpu_index_tuple_cost = 1
"""

#: Whether a run is driven or due. Each half reads an index that has nothing else in it.
_ANY_LEFT = """
SELECT EXISTS (SELECT 1 FROM {runs} WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL)
       OR EXISTS (SELECT 1 FROM {runs} WHERE owner IS NOT NULL)
"""


@perdure.step
async def age(sent_at: float) -> float:
    """How long ago that was; both processes look at the same machine's clock."""
    return time.time() - sent_at


@perdure.workflow
async def listen(messages: int) -> list[float]:
    return [await age(await perdure.receive("tick", float)) for _ in range(messages)]


def two_workers(place: str, sizes: Sizes) -> Figures:
    """The same runs, driven by one worker process and by two, in turns; steps a second from start to last end."""
    url = url_of(place)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in (1, 2, 2, 1):
        with workers(url, number):
            rates[number].append(asyncio.run(_drive(url, sizes["runs"])))
    one, two = (statistics.mean(rates[number]) for number in (1, 2))
    return {"one_steps_per_s": one, "two_steps_per_s": two, "ratio": two / one}


async def _drive(url: str, runs: int) -> float:
    """Have the workers do everything; this process only starts it and looks whether it is done."""
    async with perdure.Engine(url, worker=False) as engine:
        warm = await engine.start_many([count(STEPS) for _ in range(100)])
        for handle in warm:
            await handle.result()
        with _looking(url) as any_left:
            began = time.perf_counter()
            await engine.start_many([count(STEPS) for _ in range(runs)])
            while any_left():
                await asyncio.sleep(0.02)
            return runs * STEPS / (time.perf_counter() - began)


@contextlib.contextmanager
def _looking(url: str) -> Iterator[Callable[[], bool]]:
    """Tells whether there is anything left to do."""
    if url.startswith("sqlite:///"):
        file = apsw.Connection(url.removeprefix("sqlite:///"))
        yield lambda: bool(next(file.execute(_ANY_LEFT.format(runs="runs")))[0])
        file.close()
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_BY_INDEX)
            query = _ANY_LEFT.format(runs="perdure.runs").encode()
            yield lambda: connection.execute(query).fetchone() == (True,)


def messages(place: str, sizes: Sizes) -> Figures:
    """From before a client's send to the step after the receive, in a run that waits on a worker elsewhere."""

    url = url_of(place)

    async def work() -> Figures:
        async with perdure.Engine(url, worker=False) as engine:
            handle = await engine.start(listen(sizes["times"]))
            for _ in range(sizes["times"]):
                await asyncio.sleep(0.02)  # the run waits again
                await handle.send("tick", time.time())
            return spread(await handle.result())

    with workers(url, 1):
        return asyncio.run(work())


@contextlib.contextmanager
def workers(url: str, number: int) -> Iterator[None]:
    """So many worker processes, each of which is ready."""
    command = [sys.executable, "-m", "benchmarks.engines.perdure_workers", "be_worker", url, "{}"]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(number)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        yield
    finally:
        for worker in workers:
            worker.communicate()  # end of input: it leaves


def be_worker(url: str, sizes: Sizes) -> Figures:
    """Be a worker until standard input ends."""

    async def work() -> None:
        async with perdure.Engine(url):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(work())
    return {}


if __name__ == "__main__":
    main(two_workers, messages, be_worker)
