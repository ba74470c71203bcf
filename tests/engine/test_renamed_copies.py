"""A copy of a run that is imported under another id is another run: to services, hearers and parents."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Place, Places, exists, of_kind, run, until
from publication_kit import all_settled

import perdure
from perdure import Handle, Retry, Status, events, step, workflow
from perdure.runtime.packages import renamed
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.records import RunFilter

KEYS: list[tuple[str, str]] = []
BROKEN: Counter[str] = Counter()

QUICK = Retry(max_attempts=1)


@pytest.fixture(autouse=True)
def fresh() -> None:
    KEYS.clear()
    BROKEN.clear()


def pays(what: str) -> str:
    """Fails as often as that is broken."""
    KEYS.append((what, perdure.idempotency_key()))
    perdure.publish("copies.paid", what)
    if BROKEN[what] > 0:
        BROKEN[what] -= 1
        raise ValueError("no answer")
    return what


@step(name="copies.here", retry=QUICK)
async def here(what: str) -> str:
    return pays(what)


@step(name="copies.elsewhere", queue="bank", retry=QUICK)
async def elsewhere(what: str) -> str:
    return pays(what)


@workflow(name="copies.grandchild")
async def grandchild() -> str:
    return await here("grandchild")


@workflow(name="copies.child")
async def child() -> str:
    perdure.publish("copies.begun", "child")
    await here("child")
    return await grandchild()


@workflow(name="copies.parent")
async def parent() -> str:
    return await (await perdure.start(child(), queue="kids")).result()


@workflow(name="copies.two_steps")
async def two_steps(first: bool) -> str:
    return f"{await here(str(first))} {await here('two')}"


@workflow(name="copies.sends")
async def sends() -> str:
    return await elsewhere("sent")


def key(run: str, step: str) -> str:
    return StepInfo(run, step, step.partition("#")[0], 1).idempotency_key()


async def fails(handle: Handle[Any]) -> None:
    with suppress(perdure.RunFailed):
        await handle.result()
    assert await handle.status() == Status.FAILED


async def copied(source: Place, old: str, new: str, target: Place, *, children: bool = False) -> None:
    """What `perdure export` and `perdure import --id` do."""
    one, other = source.store(), target.store()
    await one.open()
    await other.open()
    try:
        (row,) = await one.get([old])
        assert row is not None
        family = await one.find(RunFilter(parent=row.run)) if children else []
        found = await one.moving.read([old, *(member.id for member in family)])
        packages = renamed([package for package in found if package is not None], old, new)
        assert all(await other.moving.put(packages))
        back = await other.moving.read([package.id for package in packages])
        assert [package.damage() for package in back if package is not None] == [[] for _ in packages]
    finally:
        await one.close()
        await other.close()


@pytest.mark.parametrize("retried", [False, True], ids=["ordinary", "retried"])
def test_the_copy_of_a_child_has_keys_of_its_own_and_publishes_anew(place: Place, retried: bool) -> None:
    async def main() -> None:
        original = "r/copies.child#1"
        async with place.engine(queues=("default",)) as engine:
            handle = await engine.start(parent(), id="r")
            await until(lambda: exists(engine.get(original)))
            if retried:
                BROKEN["child"] = 1
                async with place.engine(queues=("kids",)):
                    await fails(handle)
                await handle.retry()
                first, original = original, "r~2/copies.child#1"
                await until(lambda: exists(engine.get(original)))
                (started,) = await of_kind(engine.get(original), events.RunStarted)
                assert started.keys_of == first
            KEYS.clear()
            await copied(place, original, "copy", place)
            (started,) = await of_kind(engine.get("copy"), events.RunStarted)
            assert started.keys_of is None
            async with place.engine(queues=("kids",)):
                assert await handle.result() == "grandchild"
                assert await engine.get("copy").result() == "grandchild"
            acts_as = "r/copies.child#1"
            assert sorted(KEYS) == sorted(
                [
                    ("child", key(acts_as, "copies.here#1")),
                    ("child", key("copy", "copies.here#1")),
                    ("grandchild", key(f"{original}/copies.grandchild#1", "copies.here#1")),
                    ("grandchild", key("copy/copies.grandchild#1", "copies.here#1")),
                ]
            )
            await until(lambda: all_settled(engine))
            told = sorted([one.payload async for one in engine.publications()])
            assert told == ["child"] * 4 + ["grandchild"] * 2  # begun and paid, by either

    run(main)


def test_no_parent_hears_of_the_end_of_a_copy(place: Place) -> None:
    async def main() -> None:
        original = "r/copies.child#1"
        async with place.engine(queues=("default",)) as engine:
            handle = await engine.start(parent(), id="r")
            await until(lambda: exists(engine.get(original)))
            await copied(place, original, "copy", place)
            await engine.get(original).pause()
            async with place.engine(queues=("kids",)):
                assert await engine.get("copy").result() == "grandchild"
                assert await of_kind(handle, events.ChildEnded) == []
                await engine.get(original).resume()
                assert await handle.result() == "grandchild"

    run(main)


def test_the_copy_of_a_child_that_has_failed_again_is_retried_under_keys_of_its_own(place: Place) -> None:
    async def main() -> None:
        BROKEN["child"] = 2
        async with place.engine(queues=("default", "kids")) as engine:
            handle = await engine.start(parent(), id="r")
            await fails(handle)
            await handle.retry()
            await fails(handle)
            await copied(place, "r~2/copies.child#1", "copy", place)
            copy = engine.get("copy")
            await copy.retry()
            assert await copy.result() == "grandchild"
            was, again, others = (made for what, made in KEYS if what == "child")
            assert was == again == key("r/copies.child#1", "copies.here#1")
            assert others == key("copy", "copies.here#1")

    run(main)


def test_a_copy_goes_on_from_its_own_former_generation(make_place: Places) -> None:
    """Not from that of a run which has its old id there."""

    async def main() -> None:
        source, target = make_place(), make_place()
        BROKEN["two"] = 2
        for place in (source, target):
            async with place.engine() as engine:
                await fails(await engine.start(two_steps(place is source), id="r"))
        async with source.engine(worker=False) as engine:
            await engine.get("r").retry()
        await copied(source, "r", "copy", target)
        KEYS.clear()
        async with target.engine() as engine:
            assert await engine.get("copy").result() == "True two"
            assert KEYS == [("two", key("copy", "copies.here#2"))]

    run(main)


def test_a_step_that_is_on_its_way_to_a_queue_has_the_key_of_the_copy(make_place: Places) -> None:
    async def main() -> None:
        source, target = make_place(), make_place()
        async with source.engine() as engine:
            await engine.start(sends(), id="r")
            await until(lambda: sent(engine.get("r")))
        await copied(source, "r", "copy", target, children=True)
        async with target.engine(queues=("default", "bank")) as engine:
            copy = engine.get("copy")
            assert await copy.result() == "sent"
            assert KEYS == [("sent", key("copy", "copies.elsewhere#1"))]
            assert len(await of_kind(copy, events.StepSent)) == 1
            await until(lambda: all_settled(engine))
            assert [one.payload async for one in engine.publications()] == ["sent"]

    run(main)


async def sent(handle: Handle[Any]) -> bool:
    return await of_kind(handle, events.StepSent) != []
