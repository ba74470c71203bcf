"""Changed code and old runs: `patched`, its retirement, versions, and code that doesn't fit."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from engine_kit import Place, bury, crash, greets, history, of_kind, reaches, recorded, redefine, run, until

import perdure
from perdure import Engine, events, step, workflow
from perdure.errors import ConfigurationError, UsageError

NAME = "patched.subject"
BODIES: Counter[str] = Counter()


@step(name="patched.does")
async def does(label: str) -> str:
    BODIES[label] += 1
    return label


async def old(pause: int) -> list[str]:
    told = [await does("a")]
    await asyncio.sleep(pause)
    return [*told, await does("b")]


async def new_before(pause: int) -> list[str]:
    """The change is at a place that old runs have passed."""
    told = [await does("new")] if perdure.patched("change") else []
    told += [await does("a")]
    await asyncio.sleep(pause)
    return [*told, await does("b")]


async def new_after(pause: int) -> list[str]:
    """The change is at a place that old runs haven't come to."""
    told = [await does("a")]
    await asyncio.sleep(pause)
    return [*told, await does("new" if perdure.patched("change") else "b")]


async def loops(pause: int) -> list[str]:
    told: list[str] = []
    for number in range(3):
        told.append(await does("new" if perdure.patched("change") else "b"))
        await asyncio.sleep(pause if number == 0 else 0)
    return told


async def loops_old(pause: int) -> list[str]:
    told: list[str] = []
    for number in range(3):
        told.append(await does("b"))
        await asyncio.sleep(pause if number == 0 else 0)
    return told


async def retired(pause: int) -> list[str]:
    """The old branch is gone, and the call with it."""
    told = [await does("new"), await does("a")]
    await asyncio.sleep(pause)
    return [*told, await does("b")]


async def interrupted(place: Place, code: Any, **options: Any) -> None:
    """This code waits for its timer when its engine dies."""
    async with place.engine(**options) as engine:
        handle = await engine.start(redefine(NAME, code)(3600), id="a")
        await until(lambda: _has(handle, events.TimerStarted))
        await crash(engine)
    await bury(place)
    place.ahead += 3600  # the timer is due now


async def _has(handle: Any, kind: Any) -> bool:
    return bool(await of_kind(handle, kind))


async def patches(engine: Engine, id: str = "a") -> list[str]:
    return [event.op for event in await of_kind(engine.get(id), events.Patched)]


async def unpatched(engine: Engine, change: str = "change") -> list[str]:
    return [item.id async for item in engine.runs(unpatched=change)]


def test_a_new_run_takes_the_new_branch_and_keeps_to_it(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, new_before)
        async with place.engine() as engine:
            assert await engine.get("a").result() == ["new", "a", "b"]
            assert await patches(engine) == ["patch:change"]

    run(main)


def test_a_run_that_passed_with_the_old_code_keeps_to_that(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, old)
        redefine(NAME, new_before)
        async with place.engine() as engine:
            assert await unpatched(engine) == ["a"]
            assert await engine.get("a").result() == ["a", "b"]
            assert await patches(engine) == []
            assert await engine.run(new_before_call(), id="fresh") == ["new", "a", "b"]

    run(main)


def new_before_call() -> Any:
    return redefine(NAME, new_before)(0)


def test_a_run_that_comes_to_the_change_later_takes_it(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, old)
        redefine(NAME, new_after)
        async with place.engine() as engine:
            assert await engine.get("a").result() == ["a", "new"]
            assert await patches(engine) == ["patch:change"]

    run(main)


def test_a_run_is_told_the_same_each_time(place: Place) -> None:
    """A loop that began with the old code goes on with it; one that began with the new code, with that."""

    async def main() -> None:
        await interrupted(place, loops_old)
        redefine(NAME, loops)
        async with place.engine() as engine:
            assert await engine.get("a").result() == ["b", "b", "b"]
            handle = await engine.start(redefine(NAME, loops)(0), id="b")
            assert await handle.result() == ["new", "new", "new"]
            assert await patches(engine, "b") == ["patch:change"]

    run(main)


def test_when_the_call_is_gone_runs_with_the_marker_still_replay(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, new_before)
        redefine(NAME, retired)
        async with place.engine() as engine:
            assert await unpatched(engine) == []
            assert await engine.get("a").result() == ["new", "a", "b"]
            assert len(await recorded(engine.get("a"))) == 3

    run(main)


def test_ended_runs_need_no_old_branch(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(redefine(NAME, old)(0), id="a")
            assert await unpatched(engine) == []

    run(main)


def test_a_query_sees_what_the_run_was_told(place: Place) -> None:
    async def asked(pause: int) -> list[bool]:
        @perdure.on_query
        def told() -> list[bool]:
            return [perdure.patched("change"), perdure.patched("not asked yet")]

        first = perdure.patched("change")
        await does("a")
        await asyncio.sleep(pause)
        return [first, perdure.patched("change")]

    async def asked_old(pause: int) -> list[bool]:
        await does("a")
        await asyncio.sleep(pause)
        return []

    async def main() -> None:
        await interrupted(place, asked_old)
        redefine(NAME, asked)
        async with place.engine() as engine:
            assert await engine.get("a").query("told") == [False, True]
            assert await engine.get("a").result() == [False, False]
            assert await engine.get("a").query("told") == [False, True]
            fresh = await engine.start(redefine(NAME, asked)(0), id="b")
            assert await fresh.query("told") == [True, True]
            assert await fresh.result() == [True, True]

    run(main)


def test_patched_is_for_workflow_code(memory: Place) -> None:
    @step(name="patched.asks")
    async def asks() -> bool:
        return perdure.patched("x")

    @workflow(name="patched.asking")
    async def asking() -> None:
        with pytest.raises(UsageError, match="step"):
            await asks()
        with pytest.raises(UsageError, match="name"):
            perdure.patched("")

    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(asking())

    run(main)
    assert perdure.patched("outside")


# -- code that doesn't fit ----------------------------------------------------------------------------


def swapped_of() -> Any:
    async def swapped(_: int) -> list[str]:
        return [await does("other")]

    return swapped


async def epoch_of(engine: Engine, id: str = "a") -> int:
    (row,) = await engine._store.get([id])
    assert row is not None
    return row.epoch


def test_workers_of_a_version_that_does_not_fit_try_it_once(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, old)
        redefine(NAME, swapped_of())
        async with place.engine(version="2") as engine:
            await reaches(engine.get("a"), "blocked")
            tried = await epoch_of(engine)
            async with place.engine(version="2") as other:
                assert await other.run(greets("you")) == "hello you"  # it claims
            async with place.engine(version="2") as other:
                assert await other.run(greets("them")) == "hello them"
            assert await epoch_of(engine) == tried
            assert await engine.get("a").status() == "blocked"
        redefine(NAME, old)
        async with place.engine(version="3") as engine:
            assert await engine.get("a").result() == ["a", "b"]

    run(main)


def test_a_worker_that_fits_may_be_there_before_the_run_is_blocked(place: Place) -> None:
    """As in a rolling deploy: the one whose code doesn't fit gets the run first."""

    async def main() -> None:
        await interrupted(place, old)
        misfit = redefine(NAME, swapped_of()).definition
        fitting = redefine(NAME, old).definition
        async with place.engine() as first, place.engine() as second:
            # both workers are of this process, so each is given its own code by hand
            for engine, definition in ((first, misfit), (second, fitting)):
                _drives_with(engine, definition)
            assert await first.get("a").result() == ["a", "b"]

    run(main)


def _drives_with(engine: Engine, definition: Any) -> None:
    from perdure.runtime.driver import Driver
    from perdure.runtime.machines import new_machine

    worker = engine._worker
    assert worker is not None

    def driver(row: Any) -> Driver:
        made = Driver(worker, row, definition, new_machine(row.id, definition, worker.max_payload))
        made.last_active = worker.clock()
        return made

    worker._driver = driver  # type: ignore[method-assign]


# -- versions -----------------------------------------------------------------------------------------


def test_a_pinned_run_waits_for_its_version(place: Place) -> None:
    @workflow(name="patched.pinned", pinned=True)
    async def pinned() -> str:
        await asyncio.sleep(3600)
        return await does("pinned")

    async def main() -> None:
        async with place.engine(version="1") as engine:
            handle = await engine.start(pinned(), id="a")
            await until(lambda: _has(handle, events.TimerStarted))
            info = await handle.info()
            assert (info.version, info.pinned) == ("1", True)
        place.ahead += 3600
        async with place.engine(version="2") as engine:
            await reaches(engine.get("a"), "blocked")
            assert "no worker of version '1'" in ((await engine.get("a").info()).reason or "")
            async with place.engine(version="1"):
                assert await engine.get("a").result() == "pinned"
            assert (await engine.get("a").info()).version == "1"

    run(main)


def test_other_runs_move_to_the_version_that_is_there(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, old, version="1")
        async with place.engine(version="2") as engine:
            assert await engine.get("a").result() == ["a", "b"]
            assert (await engine.get("a").info()).version == "2"
            recovered = [
                event for event in await history(engine.get("a")) if isinstance(event, events.RunRecovered)
            ]
            assert [event.version for event in recovered] == ["2"]

    run(main)


def test_a_version_has_printable_characters(memory: Place) -> None:
    with pytest.raises(ConfigurationError, match="version"):
        memory.engine(version="a\nb")
    with pytest.raises(ConfigurationError, match="version"):
        memory.engine(version="a" * 101)


def test_code_that_spun_is_tried_again_by_the_same_version(place: Place) -> None:
    """It may have been the machine's fault, which no other version would mend."""
    spins = [True]

    async def spun(_: int) -> str:
        while spins:
            pass
        return "done"

    async def main() -> None:
        async with place.engine(version="1", turn_limit=0.1) as engine:
            await engine.start(redefine(NAME, spun)(1), id="a")
            await reaches(engine.get("a"), "blocked")
        spins.clear()
        async with place.engine(version="1") as engine:
            assert await engine.get("a").result() == "done"

    run(main)
