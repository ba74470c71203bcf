"""What is measured inside of Perdure on SQLite, by its own parts; no other engine has a counterpart."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import apsw

import perdure
from benchmarks.engines.bare_sqlite import EVENT
from benchmarks.engines.measuring import Figures, Sizes, disk_bytes, main, resident_bytes, shares, stopwatch
from benchmarks.engines.with_perdure import count, url_of
from perdure.codec.events import decode_event
from perdure.core.machine import Machine
from perdure.runtime.definitions import workflow_named
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.store import SqliteStore


@perdure.workflow
async def sleep_long() -> None:
    await asyncio.sleep(86_400)


@perdure.workflow
async def receive() -> None:
    await perdure.receive("anything", int)


def replay(folder: str, sizes: Sizes) -> Figures:
    """Rebuilding a run from its recorded steps: decode the history and drive the code through it."""
    steps = sizes["steps"]

    async def work() -> float:
        async with perdure.Engine(url_of(folder)) as engine:
            await engine.run(count(steps), id="long")
        store = SqliteStore(str(Path(folder) / "bench.db"))
        await store.open()
        (row,) = await store.get(["long"])
        assert row is not None
        (history,) = await store.load([row.run])
        await store.close()
        return _replay(row.workflow, steps, list(history.events))

    return {"events_per_s": asyncio.run(work())}


def _replay(workflow: str, steps: int, history: list[bytes]) -> float:
    definition = workflow_named(workflow)
    assert definition is not None
    rates = []
    for _ in range(3):
        machine = Machine(
            "long", workflow, lambda _: definition.function(steps), _unexpected, _unexpected, 2**21
        )
        machine.replaying = True
        with stopwatch() as seconds:
            machine.loop.enter()
            for number, data in enumerate(history):
                event = decode_event(data)
                if number == 0:
                    machine.begin(event, event.at)  # type: ignore[arg-type]
                else:
                    machine.feed(event)
            machine.loop.leave()
        rates.append(len(history) / seconds())
        assert machine.ended
    return statistics.median(rates)


def _unexpected(*args: object, **kwargs: object) -> BaseException:
    return AssertionError("nothing fails in this run")


def memory(folder: str, sizes: Sizes) -> Figures:
    """Bytes of one run that is suspended in memory: of one that sleeps, and of one that waits for a message."""
    runs = sizes["runs"]

    async def work() -> Figures:
        async with perdure.Engine(url_of(folder), evict_after=3600, max_resident=10 * runs) as engine:

            async def begin(number: int, make: Callable[[], perdure.Call[None]]) -> None:
                for _ in range(0, number, 500):  # in portions: starting them doesn't count as keeping them
                    await engine.start_many([make() for _ in range(500)])
                await asyncio.sleep(1.0)

            async def growth(make: Callable[[], perdure.Call[None]]) -> float:
                await begin(runs // 4, make)  # what there is only once is there then
                before = resident_bytes()
                await begin(runs, make)
                return (resident_bytes() - before) / runs

            return {"bytes_per_run": await growth(sleep_long), "receiving": await growth(receive)}

    return asyncio.run(work())


def overhead(folder: str, sizes: Sizes) -> Figures:
    """Bytes on disk for one event with a result of a byte or two, its share of the run's row included."""
    runs, steps = sizes["runs"], sizes["steps"]

    async def work() -> Figures:
        async with perdure.Engine(url_of(folder)) as engine:
            handles = await engine.start_many([count(steps) for _ in range(runs)])
            await asyncio.gather(*(handle.result() for handle in handles))
        return {"bytes_per_event": disk_bytes(Path(folder)) / (runs * (steps + 2))}

    return asyncio.run(work())


class _CountingFile(apsw.VFSFile):
    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        _CountingDisk.syncs += 1
        super().xSync(flags)


class _CountingDisk(apsw.VFS):
    syncs = 0

    def __init__(self) -> None:
        super().__init__("counting", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _CountingFile:  # noqa: N802
        return _CountingFile("", name, flags)


def fsyncs(folder: str, sizes: Sizes) -> Figures:
    """Syncs for each commit of one sequential run."""
    disk = _CountingDisk()
    steps = sizes["steps"]

    async def work() -> int:
        engine = perdure.Engine(url_of(folder))
        engine._store = SqliteStore(str(Path(folder) / "bench.db"), vfs="counting")
        async with engine:
            await engine.run(count(10))
            before = disk.syncs
            await engine.run(count(steps))
            return disk.syncs - before

    counted = asyncio.run(work())
    disk.unregister()
    # one commit for the start, one for each step, one for the end; a lease or a checkpoint may add a few
    return {"fsyncs_per_commit": counted / (steps + 2)}


def beside_raw(folder: str, sizes: Sizes) -> Figures:
    """One run's steps and bare commits take turns, run by run: the disk drifts faster than rounds change."""
    return asyncio.run(_in_slices(folder, sizes["slices"], sizes["steps"]))


def beside_raw_slower(folder: str, sizes: Sizes) -> Figures:
    """The same, and each commit's wait for the disk is so much longer: most clouds' disks take 0.3 to 2 ms."""
    pause = sizes["slower_us"] / 1e6
    commit = Database.commit

    def commit_slowly(database: Database) -> None:
        commit(database)
        time.sleep(pause)

    Database.commit = commit_slowly  # type: ignore[method-assign]
    return asyncio.run(_in_slices(folder, sizes["slices"], sizes["steps"], lambda: time.sleep(pause)))


async def _in_slices(
    folder: str, slices: int, steps: int, after_commit: Callable[[], None] = lambda: None
) -> Figures:
    raw = apsw.Connection(str(Path(folder) / "raw.db"))
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA wal_autocheckpoint=1000")
    raw.execute("CREATE TABLE events (run, seq, data, PRIMARY KEY (run, seq)) WITHOUT ROWID")
    pairs = []
    async with perdure.Engine(url_of(folder)) as engine:
        await engine.run(count(20))
        for number in range(slices):
            with stopwatch() as limit:
                for seq in range(steps):
                    raw.execute("BEGIN IMMEDIATE")
                    raw.execute("INSERT INTO events VALUES (?, ?, ?)", (number, seq, os.urandom(EVENT)))
                    raw.execute("COMMIT")
                    after_commit()
            with stopwatch() as ours:
                await engine.run(count(steps))
            pairs.append((steps / limit(), steps / ours()))
    return shares(pairs)


if __name__ == "__main__":
    main(replay, memory, overhead, fsyncs, beside_raw, beside_raw_slower)
