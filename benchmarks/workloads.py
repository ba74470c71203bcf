"""What is measured: each function is one measurement, run in a fresh process and a fresh folder.

Usage: python -m benchmarks.workloads NAME FOLDER  ->  one JSON object on standard output
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw

import perdure
from perdure.codec.events import decode_event
from perdure.core.machine import Machine
from perdure.runtime.definitions import workflow_named
from perdure.storage.sqlite.store import SqliteStore

Figures = dict[str, float]

SEQUENTIAL_STEPS = 2_000
RUNS, STEPS = 1_000, 10
REPLAYED_STEPS = 50_000
SUSPENDED = 8_000
SLEEPERS = 100_000


@perdure.step
async def increment(number: int) -> int:
    return number + 1


@perdure.workflow
async def count(steps: int) -> int:
    number = 0
    for _ in range(steps):
        number = await increment(number)
    return number


@perdure.workflow
async def sleep_long() -> None:
    await asyncio.sleep(86_400)


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'bench.db'}"


def raw_commits(folder: Path) -> Figures:
    """Single-row commits of a bare apsw loop, WAL and synchronous=FULL: the disk's limit for one run."""
    connection = apsw.Connection(str(folder / "raw.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(
        "CREATE TABLE events (run INTEGER, seq INTEGER, data BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID"
    )
    data = os.urandom(150)
    began = time.perf_counter()
    for seq in range(SEQUENTIAL_STEPS):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO events VALUES (1, ?, ?)", (seq, data))
        connection.execute("COMMIT")
    return {"commits_per_s": SEQUENTIAL_STEPS / (time.perf_counter() - began)}


def raw_batches(folder: Path) -> Figures:
    """Rows per second of a bare apsw loop, 1,000 rows of different runs in each commit."""
    connection = apsw.Connection(str(folder / "raw.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE events (run INTEGER, seq INTEGER, data BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID"
    )
    data = os.urandom(150)
    batches = 50
    began = time.perf_counter()
    for seq in range(batches):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?)", ((run, seq, data) for run in range(1000))
        )
        connection.execute("COMMIT")
    return {"rows_per_s": batches * 1000 / (time.perf_counter() - began)}


def sequential(folder: Path) -> Figures:
    """One run of 2,000 steps, one after the other: every step is one commit."""

    async def main() -> float:
        async with perdure.Engine(_url(folder)) as engine:
            await engine.run(count(10))  # warm
            began = time.perf_counter()
            await engine.run(count(SEQUENTIAL_STEPS))
            return SEQUENTIAL_STEPS / (time.perf_counter() - began)

    return {"steps_per_s": asyncio.run(main())}


def concurrent(folder: Path) -> Figures:
    """1,000 runs of 10 steps at once, from starting them to the last result."""

    async def main() -> float:
        async with perdure.Engine(_url(folder)) as engine:
            await engine.run(count(10))
            began = time.perf_counter()
            handles = await engine.start_many([count(STEPS) for _ in range(RUNS)])
            results = await asyncio.gather(*(handle.result() for handle in handles))
            took = time.perf_counter() - began
            assert results == [STEPS] * RUNS
            return RUNS * STEPS / took

    return {"steps_per_s": asyncio.run(main())}


def replay(folder: Path) -> Figures:
    """Rebuilding a run of 50,000 recorded steps: decode the history and drive the code through it."""

    async def main() -> float:
        async with perdure.Engine(_url(folder)) as engine:
            await engine.run(count(REPLAYED_STEPS), id="long")
        store = SqliteStore(str(folder / "bench.db"))
        await store.open()
        (row,) = await store.get(["long"])
        assert row is not None
        (history,) = await store.load([row.run])
        await store.close()
        return _replay(row.workflow, list(history.events))

    return {"events_per_s": asyncio.run(main())}


def _replay(workflow: str, history: list[bytes]) -> float:
    definition = workflow_named(workflow)
    assert definition is not None
    rates = []
    for _ in range(3):
        machine = Machine(
            "long", workflow, lambda _: definition.function(REPLAYED_STEPS), _unexpected, _unexpected, 2**21
        )
        machine.replaying = True
        began = time.perf_counter()
        machine.loop.enter()
        for number, data in enumerate(history):
            event = decode_event(data)
            if number == 0:
                machine.begin(event, event.at)  # type: ignore[arg-type]
            else:
                machine.feed(event)
        machine.loop.leave()
        rates.append(len(history) / (time.perf_counter() - began))
        assert machine.ended
    return sorted(rates)[1]


def _unexpected(*args: object, **kwargs: object) -> BaseException:
    return AssertionError("nothing fails in this run")


def memory(folder: Path) -> Figures:
    """Bytes of one run that is suspended in memory."""

    async def main() -> float:
        async with perdure.Engine(_url(folder), evict_after=3600) as engine:
            await engine.start_many([sleep_long() for _ in range(100)])
            await asyncio.sleep(0.5)
            before = _resident_bytes()
            for _ in range(
                0, SUSPENDED, 500
            ):  # in portions, so that starting them doesn't count as keeping them
                await engine.start_many([sleep_long() for _ in range(500)])
            await asyncio.sleep(1.0)
            return (_resident_bytes() - before) / SUSPENDED

    return {"bytes_per_run": asyncio.run(main())}


def sleepers(folder: Path) -> Figures:
    """100,000 sleeping runs, evicted: what they cost in memory and on disk.

    The process's size goes up and down by some megabytes with its buffers, so memory is the slope of a line
    through many looks at it, taken after the first runs have filled those buffers.
    """

    async def main() -> Figures:
        numbers: list[float] = []
        sizes: list[float] = []
        async with perdure.Engine(_url(folder), evict_after=0.2, max_resident=5_000) as engine:
            await _start_sleepers(engine, SLEEPERS // 2)
            for number in range(SLEEPERS // 2, SLEEPERS, SLEEPERS // 20):
                await _start_sleepers(engine, SLEEPERS // 20)
                numbers.append(number)
                sizes.append(_resident_bytes())
        size = sum(path.stat().st_size for path in folder.iterdir())
        slope, _ = statistics.linear_regression(numbers, sizes)
        return {"rss_bytes_per_run": max(0.0, slope), "disk_bytes_per_run": size / SLEEPERS}

    return asyncio.run(main())


async def _start_sleepers(engine: perdure.Engine, number: int) -> None:
    for _ in range(0, number, 2_000):
        await engine.start_many([sleep_long() for _ in range(2_000)])
    worker = engine._worker
    assert worker is not None
    while worker.drivers or [run async for run in engine.runs(status="queued", limit=1)]:
        await asyncio.sleep(0.2)


def fsyncs(folder: Path) -> Figures:
    """fsyncs per commit of one sequential run, counted by a SQLite VFS."""
    syncs = 0

    class CountingFile(apsw.VFSFile):
        def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
            nonlocal syncs
            syncs += 1
            super().xSync(flags)

    class CountingVfs(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("counting", "")

        def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> CountingFile:  # noqa: N802
            return CountingFile("", name, flags)

    vfs = CountingVfs()
    steps = 500

    async def main() -> int:
        engine = perdure.Engine(_url(folder))
        engine._store = SqliteStore(str(folder / "bench.db"), vfs="counting")
        async with engine:
            await engine.run(count(10))
            before = syncs
            await engine.run(count(steps))
            return syncs - before

    counted = asyncio.run(main())
    vfs.unregister()
    # one commit for the start, one for each step, one for the end; a lease or a checkpoint may add a few
    return {"fsyncs_per_commit": counted / (steps + 2)}


def _resident_bytes() -> int:
    import gc

    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


WORKLOADS: dict[str, Callable[[Path], Figures]] = {
    work.__name__: work
    for work in (raw_commits, raw_batches, sequential, concurrent, replay, memory, sleepers, fsyncs)
}

if __name__ == "__main__":
    print(json.dumps(WORKLOADS[sys.argv[1]](Path(sys.argv[2]))))
