"""Keys that are rotated while workers go on, and keys that are destroyed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, history, reaches, run, until
from sealed_kit import BOTH, CANARY, OLD, codec, holds, much, waits

import perdure
from helpers.postgres import lent_database
from perdure import Encryption, Engine, KeyRing, RunTerminated, events
from perdure.runtime.moving import Mover
from perdure.storage.sealing import SealedStore
from perdure.storage.sealing.rotation import count_keys, rotate

NEW = {"k2": BOTH["k2"]}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A database that outlives its process."""
    if request.param == "sqlite":
        yield request.getfixturevalue("file")
    else:
        with lent_database() as url:
            yield Place(url=url)


def engine(place: Place, keys: dict[str, bytes], **options: Any) -> Engine:
    return place.engine(lambda store: SealedStore(store, codec(keys)), **options)


def per_run(place: Place, **options: Any) -> Engine:
    return place.engine(lambda store: SealedStore(store, [Encryption(KeyRing(OLD), per_run=True)]), **options)


async def _rotated(one: Engine) -> Any:
    store = one.store
    assert isinstance(store, SealedStore)
    return await rotate(store.below, store.vault)


async def _counted(one: Engine) -> dict[str, int]:
    store = one.store
    assert isinstance(store, SealedStore)
    return dict(await count_keys(store.below))


async def _sound(one: Engine) -> None:
    """Every history is what was recorded, as `perdure check` looks at it."""
    store = one.store
    assert isinstance(store, SealedStore)
    ids = [stamp.id for stamp in await store.below.moving.stamps()]
    for package in await store.below.moving.read(ids):
        assert package is not None
        assert package.damage() == []


def test_a_driven_run_is_not_broken_by_a_rotation(place: Place) -> None:
    """The failure to fear: its driver knows the chain as it was, and what it appends next wouldn't fit any more."""

    async def main() -> None:
        async with engine(place, OLD) as one:
            await one.start(waits("old"), id="older")
            await reaches(one.get("older"), "waiting")
        async with engine(place, BOTH) as worker:
            handle = await worker.start(waits("x"), id="r")  # in the memory of this worker from now on
            await reaches(handle, "waiting")
            old = await _counted(worker)
            assert old["k1"] > 0
            async with engine(place, BOTH, worker=False) as other:
                done = await _rotated(other)
                assert done.sealed > 0
                assert not done.closed
                assert set(await _counted(other)) == {"k2"}
                assert (await _rotated(other)).sealed == 0  # there is nothing left to do
            for id, sent in (("r", "w"), ("older", "v")):
                await worker.get(id).send("word", sent)
            assert await handle.result(timeout=60) == "wxx"
            assert await worker.get("older").result(timeout=60) == "voldold"
            await _sound(worker)
        async with engine(place, NEW) as after:  # the old key can go
            assert (await after.get("r").result()) == "wxx"
            assert all(not isinstance(event, events.Sealed) for event in await history(after.get("older")))

    run(main)


def test_everything_is_sealed_anew(file: Place) -> None:
    """Streams, questions, updates, publications, schedules, mail and the rest can be read with the new key alone."""

    async def main() -> None:
        async with engine(file, OLD) as one:
            handle = await one.start(much(CANARY), id="much")
            await reaches(handle, "waiting")
            assert await handle.update("add", "a", key="u1", timeout=60) == "aa"
            await one.schedules.create("nightly", waits(CANARY), every=86_400)
            await one.publish("nobody.hears", {"what": CANARY})
            await handle.send("word", "w")
            await until(lambda: _asked(one))
            late = await one.start(waits("x"), id="late", delay=3600)
            await late.send("word", "unread")
        async with engine(file, BOTH, worker=False) as other:
            await _rotated(other)
            assert set(await _counted(other)) == {"k2"}
        assert file.path is not None
        async with engine(file, NEW) as after:
            assert [info.name for info in await after.schedules.list()] == ["nightly"]
            (question,) = [asked async for asked in after.questions()]
            await after.answer(question.id, "yes")
            assert await after.get("much").result(timeout=60) == "wyes"
            assert await after.get("much").update("add", "a", key="u1", timeout=60) == "aa"
            assert [item.value async for item in after.get("much").stream("out")] == [CANARY]

    run(main)


async def _asked(one: Engine) -> bool:
    return bool([asked async for asked in one.questions()])


def test_a_rotation_beside_busy_workers(place: Place) -> None:
    """Runs end while everything is sealed anew; nothing is lost, and all is sound."""

    async def main() -> None:
        async with engine(place, OLD) as one:
            for number in range(10):
                await one.start(waits(f"x{number}"), id=f"r{number}")
            for number in range(10):
                await reaches(one.get(f"r{number}"), "waiting")
        async with engine(place, BOTH) as worker, engine(place, BOTH, worker=False) as other:
            turning = asyncio.ensure_future(_rotated(other))
            for number in range(10):
                await worker.get(f"r{number}").send("word", "w")
            results = [await worker.get(f"r{number}").result(timeout=60) for number in range(10)]
            await turning
            assert results == [f"wx{number}x{number}" for number in range(10)]
            await _rotated(other)
            assert set(await _counted(other)) == {"k2"}
            await _sound(other)

    run(main)


def test_what_belongs_to_a_subject_is_erased(place: Place) -> None:
    async def main() -> None:
        async with engine(place, OLD) as one:
            done = await one.start(much_child(CANARY), id="done", subject="customer-42")
            assert await done.result(timeout=60) == CANARY * 2
            live = await one.start(waits(CANARY), id="live", subject="customer-42")
            other = await one.start(waits("other"), id="other", subject="customer-7")
            for handle in (live, other):
                await reaches(handle, "waiting")
            erased = await one.erase(subject="customer-42")
            assert erased.keys == 1
            assert erased.terminated == ("live",)
            assert (await one.erase(subject="customer-42")).keys == 0
            with pytest.raises(RunTerminated, match="customer-42"):
                await live.result(timeout=60)
            for id in ("done", "live"):
                seen = await history(one.get(id))
                assert isinstance(seen[0], events.Sealed)
                assert seen[0].what == "run_started"
                assert "destroyed" in seen[0].why
            await _sound(one)
            await other.send("word", "w")
            assert await other.result(timeout=60) == "wotherother"
            again = await one.start(much_child("n"), id="again", subject="customer-42")
            assert await again.result(timeout=60) == "nn"
        async with engine(place, OLD) as after:
            assert await after.get("again").result() == "nn"
            with pytest.raises(perdure.SealedError, match="destroyed"):
                await after.get("done").result()

    run(main)


def test_who_had_the_key_at_hand_finds_out_that_it_was_destroyed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that has looked at the run before, such as one that serves pages."""

    async def main() -> None:
        async with engine(place, OLD) as one, engine(place, OLD, worker=False) as looker:
            done = await one.start(much_child(CANARY), id="done", subject="customer-42")
            await done.result(timeout=60)
            assert await looker.get("done").result() == CANARY * 2
            assert (await one.erase(subject="customer-42")).keys == 1
            monkeypatch.setattr("perdure.storage.sealing.vault.KEYS_FOR", 0.0)
            assert isinstance((await history(looker.get("done")))[0], events.Sealed)
            with pytest.raises(perdure.SealedError, match="destroyed"):
                await looker.get("done").result()

    run(main)


def much_child(what: str) -> Any:
    from sealed_kit import child

    return child(what)


def test_children_and_forks_share_the_key(file: Place) -> None:
    async def main() -> None:
        async with per_run(file) as one:
            handle = await one.start(family(CANARY), id="r")
            assert await handle.result(timeout=60) == CANARY * 2
            fork = await handle.fork(id="fork")
            assert await fork.result(timeout=60) == CANARY * 2
            apart = await one.start(much_child("apart"), id="apart")
            await apart.result(timeout=60)
            assert (await one.erase(run="r")).keys == 1
            for id in ("r", "fork"):
                assert isinstance((await history(one.get(id)))[0], events.Sealed)
            children = [info.id async for info in one.runs(workflow="sealed.child")]
            gone = [id for id in children if isinstance((await history(one.get(id)))[0], events.Sealed)]
            assert len(gone) == len(children) - 1
            assert await apart.result() == "apartapart"
        assert file.path is not None
        assert holds(file.path, CANARY) == []

    run(main)


@perdure.workflow(name="sealed.family")
async def family(what: str) -> str:
    result: str = await much_child(what)
    return result


def test_what_has_no_key_of_its_own_is_told(file: Place) -> None:
    async def main() -> None:
        async with engine(file, OLD) as one:
            await one.run(much_child("x"), id="r")
            with pytest.raises(perdure.errors.UsageError, match="no key of its own"):
                await one.erase(run="r")
            await one.run(much_child("x"), id="s", subject="c")
            with pytest.raises(perdure.errors.UsageError, match="belongs to the subject 'c'"):
                await one.erase(run="s")
        async with file.engine(codec=()) as plain:
            with pytest.raises(perdure.errors.UsageError, match="doesn't encrypt"):
                await plain.erase(subject="c")
            with pytest.raises(perdure.errors.ConfigurationError, match="Encryption"):
                await plain.start(waits("x"), subject="c")

    run(main)


def test_what_is_moved_can_be_read_there(tmp_path: Path) -> None:
    """Its data keys go with it, and a repeated start is recognised; a target with keys of its own is refused."""
    source, target, taken = (Place(tmp_path / f"{name}.db") for name in ("source", "target", "taken"))

    async def main() -> None:
        async with engine(source, OLD) as one:
            await one.run(much_child("x"), id="done", subject="c")
            await one.start(waits("y"), id="live", subject="c")
            await reaches(one.get("live"), "waiting")
        async with engine(taken, OLD) as one:
            await one.run(much_child("x"), id="r")
        await _moved(source, target)
        async with engine(target, OLD) as there:
            assert await there.run(much_child("x"), id="done") == "xx"
            await there.get("live").send("word", "w")
            assert await there.get("live").result(timeout=60) == "wyy"
            assert (await there.erase(subject="c")).keys == 1
        with pytest.raises(perdure.errors.MovingError, match="keys of its own"):
            await _moved(target, taken)

    run(main)


async def _moved(source: Place, target: Place) -> None:
    stores = source.store(), target.store()
    for store in stores:
        await store.open()
    try:
        await Mover(*stores, target.url).move()
    finally:
        for store in stores:
            await store.close()
