"""What is measured on PostgreSQL: each function is one measurement, run in a fresh process and a fresh database.

Usage: python -m benchmarks.postgres NAME URL  ->  one JSON object on standard output
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg

import perdure
from benchmarks.workloads import RUNS, STEPS, Figures, count

#: The disk drifts, so raw commits and steps take turns; a slice is a run so long that its start and end count little.
SLICES, SLICE = 8, 1_000
MESSAGES = 300
#: So much is started for the workers that what they lose at the beginning and the end doesn't count.
FLEET_RUNS = 3_000


@perdure.step
async def age(sent_at: float) -> float:
    """How long ago that was; both processes look at the same machine's clock."""
    return time.time() - sent_at


@perdure.workflow
async def listen(messages: int) -> list[float]:
    return [await age(await perdure.receive("tick", float)) for _ in range(messages)]


def sequential(url: str) -> Figures:
    """One run's steps, one after the other, each of which is one commit, beside single-row commits of a bare loop.

    The bare loop is the best that a client can do: one statement and one commit in one round trip, prepared, of a row
    of the same size.
    """

    async def main() -> Figures:
        async with perdure.Engine(url) as engine:
            with psycopg.connect(url, autocommit=True) as connection:
                raw = _raw_loop(connection)
                raw(50)
                await engine.run(count(50))
                rates = [(raw(SLICE), await _rate(engine)) for _ in range(SLICES)]
        return {
            "commits_per_s": statistics.median(limit for limit, _ in rates),
            "steps_per_s": statistics.median(ours for _, ours in rates),
            "share": statistics.median(ours / limit for limit, ours in rates),
        }

    return asyncio.run(main())


def _raw_loop(connection: psycopg.Connection[tuple[object, ...]]) -> Callable[[int], float]:
    connection.prepare_threshold = 0
    connection.execute("CREATE TABLE raw_events (run bigint, seq bigint, data bytea, PRIMARY KEY (run, seq))")
    data = os.urandom(150)
    seq = 0

    def commit(times: int) -> float:
        """Commits a second."""
        nonlocal seq
        began = time.perf_counter()
        for _ in range(times):
            seq += 1
            connection.execute("INSERT INTO raw_events VALUES (1, %s, %b)", (seq, data))
        return times / (time.perf_counter() - began)

    return commit


async def _rate(engine: perdure.Engine) -> float:
    """Steps a second of one run."""
    began = time.perf_counter()
    await engine.run(count(SLICE))
    return SLICE / (time.perf_counter() - began)


def concurrent(url: str) -> Figures:
    """1,000 runs of 10 steps at once, from starting them to the last result."""

    async def main() -> float:
        async with perdure.Engine(url) as engine:
            await engine.run(count(10))
            began = time.perf_counter()
            handles = await engine.start_many([count(STEPS) for _ in range(RUNS)])
            results = await asyncio.gather(*(handle.result() for handle in handles))
            took = time.perf_counter() - began
            assert results == [STEPS] * RUNS
            return RUNS * STEPS / took

    return {"steps_per_s": asyncio.run(main())}


def two_workers(url: str) -> Figures:
    """The same runs, driven by one worker process and by two, in turns; steps a second from start to last end."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in (1, 2, 2, 1):
        with _workers(url, number):
            rates[number].append(asyncio.run(_drive(url)))
    one, two = (statistics.mean(rates[number]) for number in (1, 2))
    return {"one_steps_per_s": one, "two_steps_per_s": two, "ratio": two / one}


async def _drive(url: str) -> float:
    """Have the workers do everything; this process only starts it and looks whether it is done."""
    async with perdure.Engine(url, worker=False) as engine:
        warm = await engine.start_many([count(STEPS) for _ in range(100)])
        for handle in warm:
            await handle.result()
        began = time.perf_counter()
        await engine.start_many([count(STEPS) for _ in range(FLEET_RUNS)])
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                found = await connection.execute(
                    "SELECT 1 FROM perdure.runs WHERE ended_at IS NULL ORDER BY run DESC LIMIT 1"
                )
                if not await found.fetchall():
                    break
                await asyncio.sleep(0.02)
        return FLEET_RUNS * STEPS / (time.perf_counter() - began)


def messages(url: str) -> Figures:
    """From before a client's send to the step after the receive, in a run that waits on a worker elsewhere."""

    async def main() -> Figures:
        async with perdure.Engine(url, worker=False) as engine:
            handle = await engine.start(listen(MESSAGES))
            for _ in range(MESSAGES):
                await asyncio.sleep(0.02)  # the run waits again
                await handle.send("tick", time.time())
            ages = sorted(await handle.result())
        return {"p50_ms": ages[MESSAGES // 2] * 1e3, "p99_ms": ages[MESSAGES * 99 // 100] * 1e3}

    with _workers(url, 1):
        return asyncio.run(main())


@contextlib.contextmanager
def _workers(url: str, number: int) -> Iterator[None]:
    """So many worker processes, each of which is ready."""
    command = [sys.executable, "-m", "benchmarks.postgres", "work", url]
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


def work(url: str) -> Figures:
    """Be a worker until standard input ends."""

    async def main() -> None:
        async with perdure.Engine(url):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
    return {}


WORKLOADS: dict[str, Callable[[str], Figures]] = {
    one.__name__: one for one in (sequential, concurrent, two_workers, messages, work)
}

if __name__ == "__main__":
    print(json.dumps(WORKLOADS[sys.argv[1]](sys.argv[2])))
