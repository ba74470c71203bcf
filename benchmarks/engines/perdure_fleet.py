"""Perdure on PostgreSQL beside bare commits, with workers in other processes, and between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg

import perdure
from benchmarks.engines.bare_postgres import connect, insert
from benchmarks.engines.bare_sqlite import EVENT
from benchmarks.engines.measuring import Figures, Sizes, main, spread, stopwatch
from benchmarks.engines.with_perdure import count

STEPS = 10

#: Whether a run is driven or due. Each half reads an index that has nothing else in it.
_ANY_LEFT = """
SELECT EXISTS (SELECT 1 FROM perdure.runs WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL)
       OR EXISTS (SELECT 1 FROM perdure.runs WHERE owner IS NOT NULL)
"""


@perdure.step
async def age(sent_at: float) -> float:
    """How long ago that was; both processes look at the same machine's clock."""
    return time.time() - sent_at


@perdure.workflow
async def listen(messages: int) -> list[float]:
    return [await age(await perdure.receive("tick", float)) for _ in range(messages)]


def beside_raw(url: str, sizes: Sizes) -> Figures:
    """One run's steps and bare commits take turns: the disk drifts faster than rounds change.

    A run is so long that its start and its end, a dozen statements, count little.

    The bare loop is the best that a client can do: one statement and one commit in one round trip, prepared, of a row
    of the same size.
    """
    steps = sizes["steps"]

    async def work() -> Figures:
        pairs = []
        async with perdure.Engine(url) as engine:
            with connect(url) as connection:
                data = os.urandom(EVENT)
                insert(connection, 0, 50, data)
                await engine.run(count(50))
                for number in range(1, sizes["slices"] + 1):
                    limit = insert(connection, number * 1_000_000, steps, data)
                    with stopwatch() as seconds:
                        await engine.run(count(steps))
                    pairs.append((limit, steps / seconds()))
        return {
            "commits_per_s": statistics.median(limit for limit, _ in pairs),
            "steps_per_s": statistics.median(ours for _, ours in pairs),
            "share": statistics.median(ours / limit for limit, ours in pairs),
        }

    return asyncio.run(work())


def two_workers(url: str, sizes: Sizes) -> Figures:
    """The same runs, driven by one worker process and by two, in turns; steps a second from start to last end."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in (1, 2, 2, 1):
        with _workers(url, number):
            rates[number].append(asyncio.run(_drive(url, sizes["runs"])))
    one, two = (statistics.mean(rates[number]) for number in (1, 2))
    return {"one_steps_per_s": one, "two_steps_per_s": two, "ratio": two / one}


async def _drive(url: str, runs: int) -> float:
    """Have the workers do everything; this process only starts it and looks whether it is done."""
    async with perdure.Engine(url, worker=False) as engine:
        warm = await engine.start_many([count(STEPS) for _ in range(100)])
        for handle in warm:
            await handle.result()
        began = time.perf_counter()
        await engine.start_many([count(STEPS) for _ in range(runs)])
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                found = await connection.execute(_ANY_LEFT)
                if (await found.fetchone()) == (False,):
                    break
                await asyncio.sleep(0.02)
        return runs * STEPS / (time.perf_counter() - began)


def messages(url: str, sizes: Sizes) -> Figures:
    """From before a client's send to the step after the receive, in a run that waits on a worker elsewhere."""

    async def work() -> Figures:
        async with perdure.Engine(url, worker=False) as engine:
            handle = await engine.start(listen(sizes["times"]))
            for _ in range(sizes["times"]):
                await asyncio.sleep(0.02)  # the run waits again
                await handle.send("tick", time.time())
            return spread(await handle.result())

    with _workers(url, 1):
        return asyncio.run(work())


@contextlib.contextmanager
def _workers(url: str, number: int) -> Iterator[None]:
    """So many worker processes, each of which is ready."""
    command = [sys.executable, "-m", "benchmarks.engines.perdure_fleet", "be_worker", url, "{}"]
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
    main(beside_raw, two_workers, messages, be_worker)
