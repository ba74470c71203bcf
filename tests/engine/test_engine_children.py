"""Child runs: awaited or started, failing, cancelled, terminated, and what the end of a parent means for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal

import pytest
from engine_kit import Place, exists, greets, of_kind, reaches, run, says, until, works

import perdure
from perdure import RunCancelled, RunConflictError, RunFailed, Status, events, step, workflow
from perdure.errors import UsageError

BODIES: Counter[str] = Counter()


class OutOfTea(Exception):
    pass


@step
async def brews(name: str) -> str:
    BODIES[name] += 1
    if name == "none":
        raise OutOfTea("come back tomorrow")
    return f"a cup of {name}"


@workflow
async def tea(name: str) -> str:
    return await brews(name)


@workflow
async def waits(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return await says("waited")


@workflow
async def party(names: list[str]) -> list[str]:
    return await asyncio.gather(*(tea(name) for name in names))


def test_awaited_children_are_runs_of_their_own(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            names = [f"tea-{number}" for number in range(20)]
            handle = await engine.start(party(names), id="p")
            assert await handle.result() == [f"a cup of {name}" for name in names]
            started = await of_kind(handle, events.ChildStarted)
            assert len({event.run for event in started}) == 20
            inner = engine.get(started[3].run)
            assert await inner.result() == "a cup of tea-3"
            assert (await inner.info()).parent == "p"

    run(main)


@workflow
async def hears_of_failure() -> list[str]:
    told = []
    try:
        await tea("none")
    except RunFailed as error:
        told += [type(error).__name__, str(error), repr(error.__cause__)]
    child = await perdure.start(tea("none"), id="known")
    try:
        await child.result()
    except RunFailed as error:
        told += [error.run_id, repr(error.__cause__)]
    return told


def test_a_failing_child_raises_runfailed_with_its_cause(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(hears_of_failure(), id="p")
            assert told[0] == "RunFailed"
            assert "OutOfTea: come back tomorrow" in told[1]
            assert told[2:] == [
                "OutOfTea('come back tomorrow')",
                "known",
                "OutOfTea('come back tomorrow')",
            ]
        async with place.engine() as engine:
            assert await engine.run(hears_of_failure(), id="p") == told

    run(main)


@workflow
async def starts_and_cancels() -> list[str]:
    child = await perdure.start(waits(600), id="child")
    told = [child.id, repr(child)]
    try:
        async with asyncio.timeout(0.02):
            await child.result()
    except TimeoutError:
        told.append("gave up waiting")  # which leaves the child alone
    await child.cancel()
    await child.cancel()
    try:
        await child.result()
    except RunCancelled as error:
        told.append(str(error))
    return told


def test_a_started_child_is_cancelled_through_its_handle(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(starts_and_cancels(), id="p")
            assert told[0] == "child"
            assert told[2] == "gave up waiting"
            assert "'child' was cancelled" in told[3]
            assert await engine.get("child").status() == Status.CANCELLED

    run(main)


@workflow
async def hears_of_termination() -> str:
    try:
        await (await perdure.start(waits(600), id="child")).result()
    except perdure.RunTerminated as error:
        return f"{error.run_id}: {error}"
    return "never"


def test_a_terminated_child_raises_in_its_parent(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(hears_of_termination(), id="p")
            child = engine.get("child")
            await until(lambda: exists(child))
            await child.terminate("enough")
            assert "child: " in await handle.result()

    run(main)


Policy = Literal["cancel", "abandon", "terminate"]


@workflow
async def parent(policy: Policy, ending: str) -> str:
    seconds = 0.1 if policy == "abandon" else 600  # what is to be ended mustn't end by itself
    await perdure.start(waits(seconds), id=f"{policy}-{ending}", on_parent_close=policy)
    if ending == "fails":
        raise ValueError("the parent failed")
    if ending in ("cancelled", "terminated"):
        await asyncio.sleep(600)
    return "done"


@pytest.mark.parametrize("ending", ["completed", "fails", "cancelled", "terminated"])
def test_what_becomes_of_children_when_their_parent_ends(place: Place, ending: str) -> None:
    expected: dict[Policy, str] = {"cancel": "cancelled", "abandon": "completed", "terminate": "terminated"}

    async def main() -> None:
        async with place.engine() as engine:
            for policy in expected:
                handle = await engine.start(parent(policy, ending), id=f"p-{policy}")
                if ending in ("cancelled", "terminated"):
                    await until(lambda h=handle: children_of(h))
                    await (handle.cancel() if ending == "cancelled" else handle.terminate())
            for policy, status in expected.items():
                await reaches(engine.get(f"{policy}-{ending}"), status)
            await works(engine)

    async def children_of(handle: perdure.Handle[Any]) -> list[Any]:
        return await of_kind(handle, events.ChildStarted)

    run(main)


@workflow
async def collides(id: str) -> list[str]:
    told = []
    try:
        await (await perdure.start(tea("green"), id=id)).result()
    except RunFailed as error:
        told += [str(error), repr(type(error.__cause__).__name__)]
    try:
        child = await perdure.start(tea("black"), id="twice")
        again = await perdure.start(tea("black"), id="twice")
        told += [await child.result(), await again.result()]
    except RunFailed as error:
        told.append(str(error))
    return told


def test_a_childs_id_that_is_taken_fails_the_child_and_harms_nobody(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        async with place.engine() as engine:
            assert await engine.run(greets("first"), id="taken") == "hello first"
            told = await engine.run(collides("taken"), id="p")
            assert "'taken'" in told[0]
            assert "belongs to another run" in told[0]
            assert told[1] == repr(RunConflictError.__name__)
            assert "'twice'" in told[2]
            assert await engine.get("taken").result() == "hello first"
            assert BODIES == {"black": 1}

    run(main)


@workflow
async def is_its_own_child() -> str:
    try:
        await (await perdure.start(tea("green"), id="p")).result()
    except RunFailed as error:
        return str(error)
    return "never"


def test_a_run_cannot_be_its_own_child(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert "belongs to another run" in await engine.run(is_its_own_child(), id="p")

    run(main)


@workflow
async def misuses_start() -> list[str]:
    told = []
    wrong: list[Any] = [
        lambda: perdure.start(brews("x")),  # type: ignore[arg-type]
        lambda: perdure.start(tea("x"), on_parent_close="forget"),  # type: ignore[arg-type]
        lambda: perdure.start(tea("x"), id=""),
        lambda: perdure.start(tea("x"), id="a\n"),
    ]
    for call in wrong:
        try:
            await call()
        except UsageError as error:
            told.append(str(error))
    return told


def test_misuse_of_start_is_an_error_in_the_code_and_starts_nothing(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            told = await engine.run(misuses_start(), id="p")
            assert [
                word in text for word, text in zip(["workflow", "on_parent_close", "id", "id"], told)
            ] == [True] * 4
            assert len([item async for item in engine.runs()]) == 1

    run(main)


def test_a_parent_in_another_engine_hears_of_its_child(place: Place) -> None:
    @workflow(name="children.far")
    async def far() -> str:
        child = await perdure.start(tea("oolong"), queue="far")
        return await child.result()

    async def main() -> None:
        async with place.engine() as near, place.engine(queues=["far"]):
            handle = await near.start(far(), id="p")
            assert await handle.result() == "a cup of oolong"
            (started,) = await of_kind(handle, events.ChildStarted)
            assert (await near.get(started.run).info()).queue == "far"

    run(main)


def test_a_child_without_a_worker_is_blocked_and_its_parent_waits_for_it(place: Place) -> None:
    @workflow(name="children.nowhere")
    async def nowhere() -> str:
        return await (await perdure.start(tea("white"), id="c", queue="nobody-serves-this")).result()

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(nowhere(), id="p")
            child = engine.get("c")
            await reaches(child, "blocked")
            assert "nobody-serves" in ((await child.info()).reason or "")
            await reaches(handle, "waiting", "running")
            (wait,) = (await handle.info()).waiting_for
            assert (wait.kind, wait.detail) == ("child", "c")
            async with place.engine(queues=["nobody-serves-this"]):
                assert await handle.result() == "a cup of white"

    run(main)
