"""DBOS at work, on SQLite (a folder is given) or PostgreSQL (a URL is given).

Tuned in its favour, as far as its settings go. Workflows and steps are async functions, which took a third of the time
of sync ones. On SQLite the file is in WAL mode before DBOS opens it (DBOS leaves the mode as it is), which was four
times as fast, and one thread talks to it, as several spend their time waiting for its lock. Where it has to poll for
notifications, it does so as often as it allows.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

from benchmarks.engines.measuring import (
    Figures,
    Sizes,
    die,
    disk_bytes,
    growth,
    laps,
    main,
    rate,
    resident_bytes,
    spread,
    stopwatch,
)

stamps: list[float] = []
asleep: list[float] = []
holding = False
held: list[int] = []
ended = threading.Semaphore(0)


@DBOS.step()
async def increment(number: int) -> int:
    return number + 1


@DBOS.step()
async def produce(size: int) -> str:
    return "x" * size


@DBOS.step()
async def hold(number: int) -> int:
    """Goes on only in the second process."""
    if holding:
        held.append(number)
        await asyncio.Event().wait()
    return number


@DBOS.workflow()
async def count(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    return number


@DBOS.workflow()
async def count_and_stamp(steps: int) -> None:
    for number in range(steps):
        await increment(number)
        stamps.append(time.perf_counter())


@DBOS.workflow()
async def count_and_hold(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    await hold(number)
    ended.release()
    return number


@DBOS.workflow()
async def produce_many(steps: int, size: int) -> None:
    for _ in range(steps):
        await produce(size)


@DBOS.workflow()
async def answer(messages: int) -> None:
    for _ in range(messages):
        number = await DBOS.recv_async("ask")
        await DBOS.set_event_async(f"answer {number}", number)


@DBOS.workflow()
async def sleep_until(due: float) -> float:
    asleep.append(due)
    await DBOS.sleep_async(max(0.0, due - time.time()))
    stamps.append(time.time() - due)
    return due


@DBOS.workflow()
async def spread_out(items: int) -> int:
    done = 0
    for first in range(0, items, 100):  # as many at once as Perdure's map has
        some = range(first, min(first + 100, items))
        done += len(await asyncio.gather(*(increment(item) for item in some)))
    return done


def launch(place: str) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "log_level": "ERROR",
        "enable_otlp": False,
        "application_version": "1",
        "executor_id": "local",
        "notification_listener_polling_interval_sec": 0.001,
    }
    if "://" in place:
        config["max_executor_threads"] = 40
        config["system_database_url"] = place.replace("postgresql://", "postgresql+psycopg://", 1)
    else:
        config["max_executor_threads"] = 1
        path = Path(place) / "bench.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        config["system_database_url"] = f"sqlite:///{path}"
    DBOS(config=config)
    DBOS.launch()


def with_dbos(place: str, work: Callable[[], Coroutine[Any, Any, Figures]]) -> Figures:
    launch(place)
    return asyncio.run(work())


def sequential(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        await count(20)
        with stopwatch() as seconds:
            assert await count(sizes["steps"]) == sizes["steps"]
        return rate(sizes["steps"], seconds())

    return with_dbos(place, work)


def many(place: str, sizes: Sizes) -> Figures:
    runs, steps = sizes["runs"], sizes["steps"]

    async def work() -> Figures:
        await count(20)
        with stopwatch() as seconds:
            handles = [await DBOS.start_workflow_async(count, steps) for _ in range(runs)]
            results = [await handle.get_result() for handle in handles]
        assert results == [steps] * runs
        return rate(runs * steps, seconds())

    return with_dbos(place, work)


def latency(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        return await laps(sizes["times"], lambda _: count(1))

    return with_dbos(place, work)


def message(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        handle = await DBOS.start_workflow_async(answer, sizes["times"] + 10)
        run = handle.get_workflow_id()

        async def ask(number: int) -> None:
            await DBOS.send_async(run, number, "ask")
            assert await DBOS.get_event_async(run, f"answer {number}") == number

        return await laps(sizes["times"], ask)

    return with_dbos(place, work)


def timers(place: str, sizes: Sizes) -> Figures:
    number = sizes["timers"]

    async def work() -> Figures:
        begin = time.time() + sizes["lead"]
        for n in range(number):
            await DBOS.start_workflow_async(sleep_until, begin + n / number)
        while len(asleep) < number:
            await asyncio.sleep(0.01)
        assert time.time() < begin - 0.5, "they weren't asleep in time"
        while len(stamps) < number:
            await asyncio.sleep(0.1)
        return spread(stamps)

    return with_dbos(place, work)


def recovery(place: str, sizes: Sizes) -> Figures:
    return _go_on(place, 1)


def recovery_before(place: str, sizes: Sizes) -> Figures:
    return with_dbos(place, lambda: _interrupt(1, sizes["steps"]))


def restart(place: str, sizes: Sizes) -> Figures:
    return _go_on(place, sizes["runs"])


def restart_before(place: str, sizes: Sizes) -> Figures:
    return with_dbos(place, lambda: _interrupt(sizes["runs"], sizes["steps"]))


def _go_on(place: str, runs: int) -> Figures:
    with stopwatch() as seconds:
        launch(place)
        for _ in range(runs):
            ended.acquire()
        took = seconds()
    return {"seconds": took}


async def _interrupt(runs: int, steps: int) -> Figures:
    """Drive runs until each is in the step after its last recorded one, and die."""
    global holding
    holding = True
    for _ in range(runs):
        await DBOS.start_workflow_async(count_and_hold, steps)
    while len(held) < runs:
        await asyncio.sleep(0.01)
    die()


def sleepers(place: str, sizes: Sizes) -> Figures:
    before = resident_bytes()
    with stopwatch() as seconds:
        launch(place)
        while not stamps:
            time.sleep(0.001)
        took = seconds()
    time.sleep(1.0)
    memory = resident_bytes()
    figures = {"first_wake_ms": took * 1e3, "rss_mb": memory / 1e6, "rss_grown_mb": (memory - before) / 1e6}
    if "://" not in place:
        figures["disk_bytes_per_run"] = disk_bytes(Path(place)) / sizes["runs"]
    return figures


def sleepers_before(place: str, sizes: Sizes) -> Figures:
    """Have them all sleep, the one that will be overdue last, and die."""

    async def work() -> Figures:
        tomorrow = time.time() + 86_400
        for _ in range(sizes["runs"]):
            await DBOS.start_workflow_async(sleep_until, tomorrow)
        while len(asleep) < sizes["runs"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        await DBOS.start_workflow_async(sleep_until, time.time() + 2)
        await asyncio.sleep(1.5)
        assert not stamps
        die()

    return with_dbos(place, work)


def mapped(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        await spread_out(20)
        with stopwatch() as seconds:
            assert await spread_out(sizes["items"]) == sizes["items"]
        return rate(sizes["items"], seconds(), "items_per_s")

    return with_dbos(place, work)


def payloads(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        await produce_many(5, sizes["bytes"])
        with stopwatch() as seconds:
            await produce_many(sizes["steps"], sizes["bytes"])
        return rate(sizes["steps"], seconds())

    return with_dbos(place, work)


def growing(place: str, sizes: Sizes) -> Figures:
    async def work() -> Figures:
        await count(20)
        await count_and_stamp(sizes["steps"])
        return growth(stamps, (100, 1_000, 10_000, 100_000))

    return with_dbos(place, work)


if __name__ == "__main__":
    main(
        sequential,
        many,
        latency,
        message,
        timers,
        recovery_before,
        recovery,
        restart_before,
        restart,
        sleepers_before,
        sleepers,
        mapped,
        payloads,
        growing,
    )
    sys.stdout.flush()
    os._exit(0)  # whatever still sleeps would be waited for
