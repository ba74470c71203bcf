"""Runs whose large events are blobs: live, on replay, after crashes, and when a blob is gone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Mortal, Place, bury, crash

import perdure
from perdure import Blobs, Engine, Status, step, workflow
from perdure.codec.blobrefs import is_ref
from perdure.storage.blobs.collecting import Collected, collect
from perdure.storage.blobs.store import BlobStore
from perdure.storage.protocol import Store

LARGE = 50_000
PATIENCE = 60.0


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def body(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return body


@step
async def fetched(size: int) -> str:
    return "x" * size


@workflow
async def part(text: str) -> int:
    return len(text)


@workflow
async def pages(text: str, round: int = 1) -> int:
    one = await fetched(LARGE)
    two = await fetched(10)
    both = await asyncio.gather(fetched(LARGE + 1), fetched(LARGE + 2))
    length = await part(one)
    said = await perdure.receive("more", str)
    total = len(text) + len(one) + len(two) + sum(map(len, both)) + length + len(said)
    if round == 1:
        perdure.continue_as(pages(one + two, 2))
    return total


EXPECTED = LARGE + 10 + LARGE + 10 + 2 * LARGE + 3 + LARGE + LARGE


def engine_of(
    place: Place, folder: Path, wrap: Callable[[Store], Any] = lambda store: store, **options: Any
) -> Engine:
    """An engine on this place, with blobs."""
    blobs = Blobs(f"file://{folder}", above=4096, collect_every=None)
    engine = Engine(place.url, blobs=blobs, **options)
    assert engine._blobs is not None
    store = BlobStore(wrap(place.store()), blobs)
    engine._blobs = engine._store = store  # type: ignore[assignment]
    return engine


def blobs_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


async def whole(engine: Engine, id: str) -> int:
    handle = await engine.start(pages("y" * LARGE), id=id)
    for number in range(2):
        await handle.send("more", "z" * LARGE, key=f"{number}")
    return int(await handle.result(timeout=PATIENCE))


@in_a_loop
async def test_large_events_are_blobs_and_runs_dont_notice(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    async with engine_of(place, folder) as engine:
        assert await whole(engine, "r") == EXPECTED
        kept = len(blobs_in(folder))
        assert kept >= 10
        history = [event async for event in engine.get("r").history(generation=1)]
        assert any(len(getattr(event, "result", b"") or b"") > LARGE for event in history)
        # twice the same content of one run is one blob
        below = engine._blobs.below  # type: ignore[union-attr]
        (row,) = await below.get(["r"])
        assert row is not None
        stored = [data for _, data in await below.events(row.run)]
        assert sum(map(is_ref, stored)) >= 5
        assert max(map(len, stored)) <= 4096
    async with engine_of(place, folder) as engine:  # another process replays, and reads the result
        assert await engine.get("r").result(timeout=PATIENCE) == EXPECTED
        fork = await engine.get("r").fork(id="f")
        await fork.send("more", "z" * LARGE)
        assert await fork.result(timeout=PATIENCE) == EXPECTED
        assert (await engine.collect_blobs(grace=-1.0)).removed == 0
    shutil.rmtree(folder)


@in_a_loop
async def test_what_is_moved_or_archived_brings_its_events_along(memory: Place, tmp_path: Path) -> None:
    folder, other = tmp_path / "blobs", Place(None)
    async with engine_of(memory, folder) as engine:
        assert await whole(engine, "r") == EXPECTED
        handle = await engine.start(waits(LARGE), id="w")
        async with asyncio.timeout(PATIENCE):
            while await handle.status() is not Status.WAITING:
                await asyncio.sleep(0.01)
        store = engine._store
        packages = [package for package in await store.moving.read(["r", "w"]) if package is not None]
        (bare, _) = await engine._blobs.below.moving.read(["r", "w"])  # type: ignore[union-attr]
        with pytest.raises(perdure.errors.MovingError, match="give the engine those"):
            bare.lines()
    assert all(not package.damage() for package in packages)
    assert sum(len(line) for package in packages for line in package.lines()) > 10 * LARGE
    away = other.store()
    await away.open()
    assert await away.moving.put(packages) == [True, True]
    await away.close()
    shutil.rmtree(folder)
    async with other.engine() as engine:  # without any blobs
        assert await engine.get("r").result(timeout=PATIENCE) == EXPECTED
        await engine.get("w").send("go", None)
        assert await engine.get("w").result(timeout=PATIENCE) == LARGE


@in_a_loop
async def test_sealed_events_are_blobs_too(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    url = f"sqlite:///{tmp_path}/sealed.db"
    options: dict[str, Any] = {
        "codec": perdure.Encryption({"k1": bytes(range(32))}),
        "blobs": Blobs(str(folder), above=4096),
    }
    async with Engine(url, **options) as engine:
        assert await whole(engine, "r") == EXPECTED
    held = b"".join(path.read_bytes() for path in blobs_in(folder))
    assert len(held) > 10 * LARGE
    assert b"xxxxxxxx" not in held
    async with Engine(url, **options) as engine:
        assert await engine.get("r").result(timeout=PATIENCE) == EXPECTED
        assert [event async for event in engine.get("r").history()]


class NoLedger:
    """What is below the blobs sees references in the place of events, so nothing is told of them."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}

    def dies(self, batch: object) -> None: ...
    def committed(self, append: object) -> None: ...


async def dies(place: Place, folder: Path, id: str, at: int, *, commits: bool) -> bool:
    """Let an engine drive a run until it dies at its n-th append, or is done. Returns whether it died."""
    engine = engine_of(place, folder, lambda store: Mortal(store, at, commits, NoLedger()))  # type: ignore[arg-type]
    await engine.__aenter__()
    mortal: Any = engine._blobs.below  # type: ignore[union-attr]
    driving = asyncio.ensure_future(whole(engine, id))
    dying = asyncio.ensure_future(mortal.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    died = bool(mortal.dead.is_set())
    for task in (driving, dying):
        task.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    return died


@in_a_loop
async def test_a_worker_that_dies_between_blob_and_event_loses_nothing(memory: Place, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    ids: list[str] = []
    died = True
    while died:
        for commits in (False, True):
            ids.append(f"r-{len(ids)}")
            died = await dies(memory, folder, ids[-1], 1 + len(ids) // 2, commits=commits)
            async with engine_of(memory, folder) as survivor:
                assert await whole(survivor, ids[-1]) == EXPECTED
    assert len(ids) > 16
    async with engine_of(memory, folder) as engine:
        before = len(blobs_in(folder))
        found = await engine.collect_blobs(grace=-1.0)  # whatever the dead have left is old
        assert found.kept == len(blobs_in(folder)) == before - found.removed
        assert (await engine.collect_blobs(grace=-1.0)).removed == 0
        for id in ids:
            for generation in (1, 2):
                assert [event async for event in engine.get(id).history(generation=generation)]


@in_a_loop
async def test_only_what_nobody_refers_to_and_is_old_is_collected(memory: Place, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    async with engine_of(memory, folder) as engine:
        await whole(engine, "r")
        store = engine._blobs
        assert isinstance(store, BlobStore)
        kept = len(blobs_in(folder))
        for id in ("r", "gone"):
            await store._kept(id, id.encode() * 5000)
        assert await collect(store, grace=3600.0) == Collected(young=kept + 2)
        assert await collect(store, ids=["gone"], grace=-1.0) == Collected(
            removed=1, bytes=len(b"gone" * 5000) + 11
        )
        found = await collect(store, grace=-1.0)
        assert (found.removed, found.kept) == (1, kept)
        assert await engine.get("r").result() == EXPECTED
        assert len(blobs_in(folder)) == kept
    with pytest.raises(perdure.errors.UsageError, match="no blobs"):
        async with memory.engine() as engine:
            await engine.collect_blobs()


@workflow
async def waits(size: int) -> int:
    text = await fetched(size)
    await perdure.receive("go")
    return len(text)


@pytest.mark.parametrize("harm", ["missing", "changed", "cut"])
@in_a_loop
async def test_a_blob_that_is_gone_or_changed_blocks_its_run_and_no_other(
    harm: str, memory: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "blobs"
    async with engine_of(memory, folder) as engine:
        handle = await engine.start(waits(LARGE), id="r")
        async with asyncio.timeout(PATIENCE):
            while await handle.status() is not Status.WAITING:
                await asyncio.sleep(0.01)
    (blob,) = blobs_in(folder)
    saved = blob.read_bytes()
    if harm == "missing":
        blob.unlink()
    else:
        blob.write_bytes(saved[:-1] + b"?" if harm == "changed" else saved[:-1])
    async with engine_of(memory, folder) as engine:
        handle = engine.get("r")
        await handle.send("go", None)
        async with asyncio.timeout(PATIENCE):
            while await handle.status() is not Status.BLOCKED:
                await asyncio.sleep(0.01)
        reason = (await handle.info()).reason
        assert reason is not None
        assert blob.name in reason
        assert ("isn't in" if harm == "missing" else "isn't what was written") in reason
        other = await engine.start(waits(LARGE + 1), id="other")
        await other.send("go", None)
        assert await other.result(timeout=PATIENCE) == LARGE + 1
        blob.write_bytes(saved)
        await handle.resume()
        assert await handle.result(timeout=PATIENCE) == LARGE


@in_a_loop
async def test_a_full_disk_holds_runs_up_and_loses_nothing(
    memory: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "blobs"
    refused = 0
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        nonlocal refused
        if len(data) > LARGE:
            refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    async with engine_of(memory, folder) as engine:
        monkeypatch.setattr(os, "write", full)  # before the step begins, which may be at once
        handle = await engine.start(waits(LARGE), id="r")
        await handle.send("go", None)
        async with asyncio.timeout(PATIENCE):
            while refused < 2:
                await asyncio.sleep(0.01)
        assert not (await handle.status()).final
        monkeypatch.undo()
        assert await handle.result(timeout=PATIENCE) == LARGE


@in_a_loop
async def test_a_worker_without_blobs_says_what_it_lacks(memory: Place, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    async with engine_of(memory, folder) as engine:
        await engine.start(waits(LARGE), id="r")
        handle = engine.get("r")
        async with asyncio.timeout(PATIENCE):
            while await handle.status() is not Status.WAITING:
                await asyncio.sleep(0.01)
    async with memory.engine() as engine:
        handle = engine.get("r")
        await handle.send("go", None)
        async with asyncio.timeout(PATIENCE):
            while await handle.status() is not Status.BLOCKED:
                await asyncio.sleep(0.01)
        assert "give the engine those that the event was written with" in ((await handle.info()).reason or "")
    async with engine_of(memory, folder) as engine:  # another version of the code: it goes on by itself
        assert await engine.get("r").result(timeout=PATIENCE) == LARGE
