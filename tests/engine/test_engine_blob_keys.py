"""Keys that are rotated while large events lie in a blob store: no old key is needed any more, and no event is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, history, reaches, run
from sealed_kit import BOTH, OLD, codec, waits

from helpers.postgres import lent_database
from perdure import Blobs, Encryption, Engine, KeyRing, events
from perdure.codec.blobrefs import is_ref
from perdure.errors import StoreUnavailableError
from perdure.storage.blobs.collecting import collect
from perdure.storage.blobs.store import BlobStore
from perdure.storage.sealing import SealedStore
from perdure.storage.sealing.rotation import BLOBS, LOST, Progress, count_keys, rotate

NEW = {"k2": BOTH["k2"]}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A database that outlives its process."""
    if request.param == "sqlite":
        yield request.getfixturevalue("file")
    else:
        with lent_database() as url:
            yield Place(url=url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def engine(place: Place, folder: Path, keys: dict[str, bytes], **options: Any) -> Engine:
    blobs = Blobs(str(folder), above=4096, collect_every=None)
    return place.engine(lambda store: SealedStore(BlobStore(store, blobs), codec(keys)), **options)


def large(mark: str) -> str:
    """A text that compression doesn't make small."""
    return mark + os.urandom(10_000).hex()


def _parts(one: Engine) -> tuple[SealedStore, BlobStore]:
    sealed = one.store
    assert isinstance(sealed, SealedStore)
    assert isinstance(sealed.below, BlobStore)
    return sealed, sealed.below


async def _rotated(one: Engine) -> Progress:
    sealed, below = _parts(one)
    return await rotate(below, sealed.vault)


async def _counted(one: Engine) -> dict[str, int]:
    return dict(await count_keys(_parts(one)[1]))


async def _sound(one: Engine) -> None:
    """Every history is what was recorded, with references and with what they stand for."""
    _, below = _parts(one)
    for moving in (below.moving, below.below.moving):
        for package in await moving.read([stamp.id for stamp in await moving.stamps()]):
            assert package is not None
            assert package.damage() == []


async def _references(one: Engine) -> int:
    found = await _parts(one)[1].resealing.pieces("events", after=(-1, -1), limit=1000)
    return sum(is_ref(piece.data) for piece in found)


def _blobs(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_the_old_key_can_go(place: Place, folder: Path) -> None:
    """The failure to fear: it is taken out of the ring, and a large result of last year can't be read any more."""
    older, live = large("old"), large("x")

    async def main() -> None:
        async with engine(place, folder, OLD) as one:
            await one.start(waits(older), id="older")
            await reaches(one.get("older"), "waiting")
        async with engine(place, folder, BOTH) as worker:
            handle = await worker.start(waits(live), id="r")  # in the memory of this worker from now on
            await reaches(handle, "waiting")
            assert (await _counted(worker))["k1"] > 0
            async with engine(place, folder, BOTH, worker=False) as other:
                references = await _references(other)
                assert references >= 4
                done = await _rotated(other)
                assert (dict(done.closed), done.lost) == ({}, 0)
                assert set(await _counted(other)) == {"k2"}
                assert (await _rotated(other)).sealed == 0  # there is nothing left to do
                assert await _references(other) == references
                await _sound(other)
            for id, sent in (("r", "w"), ("older", "v")):
                await worker.get(id).send("word", sent)
            assert await handle.result(timeout=60) == "w" + live * 2
            assert await worker.get("older").result(timeout=60) == "v" + older * 2
        async with engine(place, folder, NEW) as after:
            removed = await collect(_parts(after)[1], grace=-1.0)
            assert removed.removed > 0  # the old blobs
            assert await after.get("r").result() == "w" + live * 2
            for id in ("older", "r"):
                assert all(not isinstance(event, events.Sealed) for event in await history(after.get(id)))
            fork = await after.get("older").fork(id="fork")
            assert await fork.result(timeout=60) == "v" + older * 2
            await _sound(after)

    run(main)


def test_a_rotation_beside_busy_workers(place: Place, folder: Path) -> None:
    """Runs replay and end while everything is sealed anew, and somebody collects what nobody needs."""
    texts = [large(f"{number}") for number in range(6)]

    async def main() -> None:
        async with engine(place, folder, OLD) as one:
            for number, text in enumerate(texts):
                await one.start(waits(text), id=f"r{number}")
            for number in range(6):
                await reaches(one.get(f"r{number}"), "waiting")
        for path in _blobs(folder):
            os.utime(path, (1, 1))  # whoever collects may remove them the moment that nothing refers to them
        async with (
            engine(place, folder, BOTH) as worker,
            engine(place, folder, BOTH, worker=False) as other,
        ):

            async def collects() -> None:
                while True:
                    await collect(_parts(other)[1], grace=3600.0)

            collecting = asyncio.ensure_future(collects())
            turning = asyncio.gather(_rotated(other), _rotated(worker))
            for number in range(6):
                await worker.get(f"r{number}").send("word", "w")
            results = [await worker.get(f"r{number}").result(timeout=60) for number in range(6)]
            for done in await turning:
                assert (dict(done.closed), done.lost) == ({}, 0)
            collecting.cancel()
            assert results == ["w" + text * 2 for text in texts]
            await _rotated(other)
            assert set(await _counted(other)) == {"k2"}
            await _sound(other)

    run(main)


def test_who_has_just_read_a_reference_finds_its_blob(file: Place, folder: Path) -> None:
    """Although it is old, and nothing refers to it any more: the grace begins with the rotation."""

    async def main() -> None:
        async with engine(file, folder, OLD) as one:
            await one.start(waits(large("x")), id="r")
            await reaches(one.get("r"), "waiting")
        old = _blobs(folder)
        for path in old:
            os.utime(path, (1, 1))
        async with engine(file, folder, BOTH, worker=False) as other:
            await _rotated(other)
            assert (await collect(_parts(other)[1], grace=3600.0)).removed == 0
            assert set(old) < set(_blobs(folder))
            assert (await collect(_parts(other)[1], grace=-1.0)).removed == len(old)

    run(main)


class Death(Exception):
    """Somebody pulls the plug."""


def _dies_at(number: int, one: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each write of a blob and of a row there is a place to die; this is the n-th of them."""
    _, below = _parts(one)
    left = number

    def passes() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Death

    put, replace = below.place.put, below.resealing.replace

    def puts(*arguments: Any) -> None:
        passes()
        put(*arguments)
        passes()

    async def replaces(*arguments: Any) -> int:
        passes()
        done: int = await replace(*arguments)
        passes()
        return done

    monkeypatch.setattr(below.place, "put", puts)
    monkeypatch.setattr(below.resealing, "replace", replaces)


def test_dying_anywhere_loses_nothing(file: Place, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"a": large("a"), "b": large("b")}

    async def main() -> None:
        async with engine(file, folder, OLD) as one:
            for id, text in texts.items():
                await one.start(waits(text), id=id)
                await reaches(one.get(id), "waiting")
        deaths = 0
        while True:
            async with engine(file, folder, BOTH, worker=False) as mortal:
                # Each place of an event's turn, and after a round of them one further, so that it comes to its end.
                _dies_at(deaths % 7 + 1 + deaths // 7, mortal, monkeypatch)
                try:
                    await _rotated(mortal)
                    died = False
                except Death:
                    died = True
            monkeypatch.undo()
            deaths += died
            async with engine(file, folder, BOTH, worker=False) as survivor:
                if deaths % 2:  # whether or not what it left is removed
                    await collect(_parts(survivor)[1], grace=-1.0)
                for id in texts:
                    seen = await history(survivor.get(id))
                    assert all(not isinstance(event, events.Sealed) for event in seen)
                await _sound(survivor)
            if not died:
                break
        assert deaths >= 12
        async with engine(file, folder, NEW) as after:
            assert set(await _counted(after)) == {"k2"}
            for id, text in texts.items():
                await after.get(id).send("word", "w")
                assert await after.get(id).result(timeout=60) == "w" + text * 2

    run(main)


@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_a_blob_that_cannot_be_read_is_told_and_stops_nothing(harm: str, file: Place, folder: Path) -> None:
    async def main() -> None:
        async with engine(file, folder, OLD) as one:
            for id in ("a", "b"):
                await one.start(waits(large(id)), id=id)
                await reaches(one.get(id), "waiting")
        blob = _blobs(folder)[0]
        saved = blob.read_bytes()
        if harm == "missing":
            blob.unlink()
        else:
            blob.write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
        async with engine(file, folder, BOTH, worker=False) as other:
            done = await _rotated(other)
            assert done.lost == 1
            assert blob.name in done.why_lost
            counted = await _counted(other)
            assert (set(counted), counted[LOST]) == ({"k2", LOST}, 1)
            blob.write_bytes(saved)
            again = await _rotated(other)
            assert (again.sealed, again.lost) == (1, 0)
            assert set(await _counted(other)) == {"k2"}

    run(main)


def test_a_full_disk_stops_it_and_it_goes_on(
    file: Place, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with engine(file, folder, OLD) as one:
            await one.start(waits(large("x")), id="r")
            await reaches(one.get("r"), "waiting")
        async with engine(file, folder, BOTH, worker=False) as other:

            def full(*arguments: Any) -> None:
                raise StoreUnavailableError("the folder of blobs has no room left (a test says so)")

            monkeypatch.setattr(_parts(other)[1].place, "put", full)
            with pytest.raises(StoreUnavailableError):
                await _rotated(other)
            monkeypatch.undo()
            assert not (await _rotated(other)).closed
            assert set(await _counted(other)) == {"k2"}

    run(main)


def test_blobs_of_subjects_keep_the_subjects_key_and_those_in_the_clear_are_sealed(
    file: Place, folder: Path
) -> None:
    text = large("x")
    blobs = Blobs(str(folder), above=4096, collect_every=None)

    def lenient(keys: dict[str, bytes]) -> Engine:
        return file.engine(
            lambda store: SealedStore(BlobStore(store, blobs), [Encryption(KeyRing(keys), strict=False)])
        )

    async def main() -> None:
        async with file.engine(lambda store: BlobStore(store, blobs), codec=()) as plain:
            await plain.start(waits(text), id="clear")
            await reaches(plain.get("clear"), "waiting")
        async with lenient(OLD) as one:
            await one.start(waits(text), id="s", subject="customer-42")
            await reaches(one.get("s"), "waiting")
        async with lenient(BOTH) as other:
            done = await _rotated(other)
            assert (done.lost, dict(done.closed)) == (0, {})
        async with engine(file, folder, NEW) as after:
            await collect(_parts(after)[1], grace=-1.0)
            assert all(text.encode() not in path.read_bytes() for path in _blobs(folder))
            for id in ("clear", "s"):
                await after.get(id).send("word", "w")
                assert await after.get(id).result(timeout=60) == "w" + text * 2
            assert (await after.erase(subject="customer-42")).keys == 1
            assert isinstance((await history(after.get("s")))[0], events.Sealed)

    run(main)


def test_without_its_blobs_a_rotation_says_what_it_lacks(file: Place, folder: Path) -> None:
    async def main() -> None:
        async with engine(file, folder, OLD) as one:
            await one.start(waits(large("x")), id="r")
            await reaches(one.get("r"), "waiting")
            references = await _references(one)
        async with file.engine(lambda store: SealedStore(store, codec(BOTH)), worker=False) as other:
            sealed = other.store
            assert isinstance(sealed, SealedStore)
            done = await rotate(sealed.below, sealed.vault)
            assert dict(done.closed) == {BLOBS: references}
            assert (await count_keys(sealed.below))[BLOBS] == references

    run(main)
