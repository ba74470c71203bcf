"""Perdure at work, on SQLite (a folder is given) or PostgreSQL (a URL is given)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import perdure
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

#: What code of runs tells the measurement in the same process: when it went past some place.
stamps: list[float] = []
asleep: list[float] = []
#: Whether `hold` holds: in the process that is to be killed.
holding = False
held: asyncio.Queue[None] = asyncio.Queue()


@perdure.step
async def increment(number: int) -> int:
    return number + 1


@perdure.step
async def produce(size: int) -> str:
    return "x" * size


@perdure.step
async def hold(number: int) -> int:
    """Goes on only in the second process."""
    if holding:
        held.put_nowait(None)
        await asyncio.Event().wait()
    return number


@perdure.workflow
async def count(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    return number


@perdure.workflow
async def count_and_stamp(steps: int) -> None:
    for number in range(steps):
        await increment(number)
        stamps.append(time.perf_counter())


@perdure.workflow
async def count_and_hold(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    return await hold(number)


@perdure.workflow
async def produce_many(steps: int, size: int) -> None:
    for _ in range(steps):
        await produce(size)


@perdure.workflow
async def answer(messages: int) -> None:
    for _ in range(messages):
        perdure.emit("answers", await perdure.receive("ask", int))


@perdure.workflow
async def sleep_until(due: float) -> float:
    asleep.append(due)
    await perdure.sleep_until(datetime.fromtimestamp(due, UTC))
    stamps.append(time.time() - due)
    return due


@perdure.workflow
async def spread_out(items: int) -> int:
    result = await perdure.map(increment, range(items))
    return result.succeeded


#: Histories may be as long as the work is; by default the 100,000th event blocks a run.
UNBOUND = perdure.Bounds(history_events=None, history_bytes=None, warn_events=None, warn_bytes=None)


def url_of(place: str) -> str:
    return place if "://" in place else f"sqlite:///{Path(place) / 'bench.db'}"


def sequential(place: str, sizes: Sizes) -> Figures:
    """One run's steps, one after the other: every step is one commit."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place)) as engine:
            await engine.run(count(20))
            with stopwatch() as seconds:
                assert await engine.run(count(sizes["steps"])) == sizes["steps"]
        return rate(sizes["steps"], seconds())

    return asyncio.run(work())


def many(place: str, sizes: Sizes) -> Figures:
    """Many runs at once, from starting them to the last result."""
    runs, steps = sizes["runs"], sizes["steps"]

    async def work() -> Figures:
        async with perdure.Engine(url_of(place)) as engine:
            await engine.run(count(20))
            with stopwatch() as seconds:
                handles = await engine.start_many([count(steps) for _ in range(runs)])
                results = await asyncio.gather(*(handle.result() for handle in handles))
        assert results == [steps] * runs
        return rate(runs * steps, seconds())

    return asyncio.run(work())


def latency(place: str, sizes: Sizes) -> Figures:
    """From the start of a run of one step to its result, one run at a time."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place)) as engine:
            return await laps(sizes["times"], lambda _: engine.run(count(1)))

    return asyncio.run(work())


def message(place: str, sizes: Sizes) -> Figures:
    """A client's message to a run that waits, and the run's answer in a stream; each durable before it is seen."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place)) as engine:
            handle = await engine.start(answer(sizes["times"] + 10))
            answers = handle.stream("answers", type=int)

            async def ask(number: int) -> None:
                await handle.send("ask", number)
                assert (await anext(answers)).value == number

            return await laps(sizes["times"], ask)

    return asyncio.run(work())


def timers(place: str, sizes: Sizes) -> Figures:
    """How late runs go on whose timers are all due within one second."""
    number = sizes["timers"]

    async def work() -> Figures:
        async with perdure.Engine(url_of(place)) as engine:
            begin = time.time() + sizes["lead"]
            calls = [sleep_until(begin + n / number) for n in range(number)]
            handles = [
                handle
                for first in range(0, number, 500)
                for handle in await engine.start_many(calls[first : first + 500])
            ]
            await asyncio.sleep(begin - 0.5 - time.time())
            assert len(asleep) == number, f"only {len(asleep)} were asleep in time"
            await asyncio.gather(*(handle.result() for handle in handles))
        assert min(stamps) >= 0, "a timer fired early"
        return spread(stamps)

    return asyncio.run(work())


def recovery(place: str, sizes: Sizes) -> Figures:
    """From opening the engine to the end of a run whose process was killed after so many recorded steps."""

    async def work() -> Figures:
        with stopwatch() as seconds:
            async with perdure.Engine(url_of(place), bounds=UNBOUND) as engine:
                assert await engine.get("long").result() == sizes["steps"]
                took = seconds()
        return {"seconds": took}

    return asyncio.run(work())


def recovery_before(place: str, sizes: Sizes) -> Figures:
    return asyncio.run(_interrupt(place, [("long", sizes["steps"])]))


def restart(place: str, sizes: Sizes) -> Figures:
    """From opening the engine to the last end of many runs whose process was killed."""
    runs, steps = sizes["runs"], sizes["steps"]

    async def work() -> Figures:
        with stopwatch() as seconds:
            async with perdure.Engine(url_of(place), bounds=UNBOUND) as engine:
                results = await asyncio.gather(*(engine.get(f"r-{n}").result() for n in range(runs)))
                took = seconds()
        assert results == [steps] * runs
        return {"seconds": took}

    return asyncio.run(work())


def restart_before(place: str, sizes: Sizes) -> Figures:
    return asyncio.run(_interrupt(place, [(f"r-{n}", sizes["steps"]) for n in range(sizes["runs"])]))


async def _interrupt(place: str, runs: list[tuple[str, int]]) -> Figures:
    """Drive runs until each is in the step after its last recorded one, and die."""
    global holding
    holding = True
    async with perdure.Engine(url_of(place), concurrency=len(runs) + 100, bounds=UNBOUND) as engine:
        for first in range(0, len(runs), 1000):
            some = runs[first : first + 1000]
            await engine.start_many([count_and_hold(steps) for _, steps in some], ids=[id for id, _ in some])
        for _ in runs:
            await held.get()
        die()


def sleepers(place: str, sizes: Sizes) -> Figures:
    """Among very many sleeping runs one is overdue: how long a new worker needs for it, and its memory then."""

    async def work() -> Figures:
        before = resident_bytes()
        with stopwatch() as seconds:
            async with perdure.Engine(url_of(place)) as engine:
                await engine.get("overdue").result()
                took = seconds()
                await asyncio.sleep(1.0)
                memory = resident_bytes()
        figures = {
            "first_wake_ms": took * 1e3,
            "rss_mb": memory / 1e6,
            "rss_grown_mb": (memory - before) / 1e6,
        }
        if "://" not in place:
            figures["disk_bytes_per_run"] = disk_bytes(Path(place)) / sizes["runs"]
        return figures

    return asyncio.run(work())


def sleepers_before(place: str, sizes: Sizes) -> Figures:
    """Have them all sleep, the one that will be overdue last, and leave in order."""
    soon = 0.0

    async def work() -> None:
        nonlocal soon
        tomorrow = time.time() + 86_400
        async with perdure.Engine(url_of(place), evict_after=0.2, max_resident=5_000) as engine:
            for first in range(0, sizes["runs"], 2_000):
                number = min(2_000, sizes["runs"] - first)
                await engine.start_many([sleep_until(tomorrow) for _ in range(number)])
                while len(asleep) < first + number - 10_000:  # let them not pile up
                    await asyncio.sleep(0.05)
            while len(asleep) < sizes["runs"]:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.0)
            soon = time.time() + 2
            await engine.start(sleep_until(soon), id="overdue")
            await asyncio.sleep(1.0)

    asyncio.run(work())
    assert not stamps
    time.sleep(max(0.0, soon - time.time()))
    return {}


def mapped(place: str, sizes: Sizes) -> Figures:
    """A map of a step over very many items, in one run."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place), bounds=UNBOUND) as engine:
            await engine.run(spread_out(20))
            with stopwatch() as seconds:
                assert await engine.run(spread_out(sizes["items"])) == sizes["items"]
        return rate(sizes["items"], seconds(), "items_per_s")

    return asyncio.run(work())


def payloads(place: str, sizes: Sizes) -> Figures:
    """One run's steps whose results are large."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place), bounds=UNBOUND) as engine:
            await engine.run(produce_many(5, sizes["bytes"]))
            with stopwatch() as seconds:
                await engine.run(produce_many(sizes["steps"], sizes["bytes"]))
        return rate(sizes["steps"], seconds())

    return asyncio.run(work())


def growing(place: str, sizes: Sizes) -> Figures:
    """What a step costs early and late in one long history."""

    async def work() -> Figures:
        async with perdure.Engine(url_of(place), bounds=UNBOUND) as engine:
            await engine.run(count(20))
            await engine.run(count_and_stamp(sizes["steps"]))
        return growth(stamps, (100, 1_000, 10_000, 100_000))

    return asyncio.run(work())


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
