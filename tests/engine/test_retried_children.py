"""A child run that failed is retried with its parent: by another run, which is the same to services and hearers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, of_kind, run, until
from process_kit import tells_its_key
from publication_kit import all_settled

import perdure
from perdure import Engine, Handle, Retry, Status, events, step, workflow
from perdure.runtime.stepcontext import StepInfo
from perdure.runtime.transactions import Statement, _flow

KEYS: list[tuple[str, str]] = []
BROKEN = [0]

QUICK = Retry(max_attempts=1)


@pytest.fixture(autouse=True)
def fresh() -> None:
    KEYS.clear()
    BROKEN[0] = 0


def pays(what: str) -> str:
    """Fails as often as it's broken."""
    KEYS.append((what, perdure.idempotency_key()))
    perdure.publish("family.paid", what)
    if BROKEN[0] > 0:
        BROKEN[0] -= 1
        raise ValueError("no answer")
    return what


@step(name="family.here", retry=QUICK)
async def here(what: str) -> str:
    return pays(what)


@step(name="family.elsewhere", queue="bank", retry=QUICK)
async def elsewhere(what: str) -> str:
    return pays(what)


@workflow(name="family.child")
async def child(where: str) -> str:
    perdure.publish("family.begun", where)
    return await (here(where) if where == "here" else elsewhere(where))


@workflow(name="family.middle")
async def middle(where: str) -> str:
    return await child(where)


@workflow(name="family.parent")
async def parent(where: str) -> str:
    return await middle(where)


@workflow(name="family.hears", on=perdure.Event("family.begun"))
async def hears(where: str) -> str:
    return where


async def fails(handle: Handle[Any]) -> None:
    with suppress(perdure.RunFailed):
        await handle.result()
    assert await handle.status() == Status.FAILED


async def told(engine: Engine, name: str) -> list[Any]:
    await until(lambda: all_settled(engine))
    return [one.payload async for one in engine.publications() if one.name == name]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_child_that_is_retried_has_the_keys_it_had_and_publishes_nothing_twice(
    place: Place, where: str
) -> None:
    async def main() -> None:
        BROKEN[0] = 2
        async with place.engine(queues=("default", "bank")) as engine:
            handle = await engine.start(parent(where), id="r")
            await fails(handle)
            await handle.retry()
            await fails(handle)  # it isn't mended yet
            await handle.retry()
            assert await handle.result() == where
            assert len(KEYS) == 3
            assert len(set(KEYS)) == 1  # also two generations later
            assert await told(engine, "family.begun") == [where]
            assert await told(engine, "family.paid") == [where]
            assert [one.id async for one in engine.runs(workflow="family.hears")] != []
            assert len([one async for one in engine.runs(workflow="family.hears")]) == 1

    run(main)


def test_what_such_a_child_leads_to_has_keys_of_its_own(place: Place) -> None:
    """A fork of it, and the child of a fork, are other runs: they act anew."""

    async def main() -> None:
        BROKEN[0] = 1
        async with place.engine() as engine:
            handle = await engine.start(parent("here"), id="r")
            await fails(handle)
            await handle.retry()
            await handle.result()
            retried = engine.get(f"r~2/{middle.name}#1/{child.name}#1")
            (started,) = await of_kind(retried, events.RunStarted)
            assert started.keys_of == f"r/{middle.name}#1/{child.name}#1"
            fork = await retried.fork(at=2, id="f")
            assert await fork.result() == "here"
            family = await handle.fork(at=2, id="g")
            assert await family.result() == "here"
            assert len(KEYS) == 4
            assert len(set(KEYS)) == 3
            assert await told(engine, "family.begun") == ["here"] * 3

    run(main)


@workflow(name="family.goes_on")
async def goes_on(round: int = 0) -> str:
    await here(f"round {round}")
    if round == 0:
        perdure.continue_as(goes_on(1))
    return "done"


@workflow(name="family.sends")
async def sends() -> str:
    return await goes_on()


def test_a_next_generation_of_such_a_child_has_keys_of_its_own(place: Place) -> None:
    async def main() -> None:
        BROKEN[0] = 1
        async with place.engine() as engine:
            handle = await engine.start(sends(), id="r")
            await fails(handle)
            await handle.retry()
            assert await handle.result() == "done"
            (first, again, later) = KEYS
            assert first == again
            assert later[1] != first[1]
            (started,) = await of_kind(engine.get(f"r~2/{goes_on.name}#1"), events.RunStarted)
            assert (started.generation, started.keys_of) == (2, None)

    run(main)


@workflow(name="family.asks_a_process")
async def asks_a_process(mended: str) -> str:
    return await tells_its_key(mended)


@workflow(name="family.sends_to_a_process")
async def sends_to_a_process(mended: str) -> str:
    return await asks_a_process(mended)


def test_steps_in_processes_of_their_own_know_it(memory: Place, tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(sends_to_a_process(str(mended)), id="r")
            with pytest.raises(perdure.RunFailed) as failed:
                await handle.result()
            mended.touch()
            await handle.retry()
            assert await handle.result() in str(failed.value)

    run(main)


def test_what_a_transaction_has_recorded_is_found_by_a_child_that_is_retried() -> None:
    first = StepInfo("r/child#1", "family.here#1", "family.here", 1)
    again = StepInfo("r~2/child#1", "family.here#1", "family.here", 1, keys_of="r/child#1")
    for info in (first, again):
        asked = next(_flow(info, "sqlite"))
        assert isinstance(asked, Statement)
        assert asked.values["run"] == "r/child#1"
