"""Workflow code that runs on for ever, or down without end, stops itself only: other runs go on."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import time
from typing import Any

import pytest
from engine_kit import Place, greets, of_kind, reaches, redefine, run, says, works

import perdure
from perdure import RunFailed, StepFailed, events, step, workflow
from perdure.runtime import guard

SPINS = ["pass", "sleep_zero", "except_exception", "except_base", "in_a_task", "in_finally", "callbacks"]


async def spin(how: str) -> None:
    match how:
        case "pass":
            while True:
                pass
        case "sleep_zero":
            while True:
                await asyncio.sleep(0)
        case "except_exception":
            while True:
                try:
                    while True:
                        pass
                except Exception:
                    continue
        case "except_base":
            for _ in range(2):  # swallows the first interruption, not the end
                try:
                    while True:
                        pass
                except BaseException:
                    continue
        case "in_a_task":
            async with asyncio.TaskGroup() as group:
                group.create_task(spin("pass"))
        case "in_finally":
            try:
                raise ValueError("first")
            finally:
                await spin("sleep_zero")
        case "callbacks":
            loop = asyncio.get_running_loop()

            def again() -> None:
                loop.call_soon(again)

            again()
            await asyncio.sleep(1000)


@workflow
async def spins(how: str) -> str:
    await says("before")
    await spin(how)
    return "never"


@workflow
async def sleeps_a_little() -> str:
    await asyncio.sleep(0.05)
    return await says("slept")


@pytest.mark.parametrize("how", SPINS)
def test_spinning_code_is_interrupted_and_blocked_while_others_complete(memory: Place, how: str) -> None:
    async def main() -> None:
        async with memory.engine(turn_limit=0.1) as engine:
            bad = await engine.start(spins(how), id="bad")
            good = [await engine.start(sleeps_a_little()) for _ in range(10)]
            assert [await handle.result() for handle in good] == ["slept"] * 10
            await reaches(bad, "blocked")
            reason = (await bad.info()).reason or ""
            assert "turn_limit" in reason
            assert "@step" in reason
            if how not in ("sleep_zero", "in_finally", "callbacks"):  # there it may be at asyncio's own lines
                assert re.search(rf"{re.escape(__file__)}:\d+, in spin", reason), reason
            await works(engine)
            assert asyncio.get_running_loop() is engine._loop

    run(main)


def test_a_run_that_span_goes_on_once_its_code_is_mended(file: Place) -> None:
    async def worse(how: str) -> str:
        await says("before")
        while True:
            await asyncio.sleep(0)

    async def better(how: str) -> str:
        return await says("before") + "!"

    async def main() -> None:
        async with file.engine(turn_limit=0.1) as engine:
            handle = await engine.start(redefine("spinning.mended", worse)("x"), id="a")
            await reaches(handle, "blocked")
            assert len(await of_kind(handle, events.StepCompleted)) == 1
        redefine("spinning.mended", better)
        async with file.engine() as engine:
            assert await engine.get("a").result() == "before!"

    run(main)


def down(n: int) -> int:
    return down(n + 1) + 1


@step
async def recurses() -> int:
    return down(0)


@step
def recurses_in_a_thread() -> int:
    return down(0)


@workflow
async def recurses_itself() -> int:
    return down(0)


@workflow
async def recurses_in_steps() -> list[str]:
    told = []
    for call in (recurses, recurses_in_a_thread):
        try:
            await call()
        except RecursionError as error:
            told.append(str(error))
    return told


def test_endless_recursion_fails_the_run_or_the_step_only(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(RunFailed, match="RecursionError"):
                await engine.run(recurses_itself())
            told = await engine.run(recurses_in_steps())
            assert len(told) == 2
            assert "recursion" in told[0]
            await works(engine)

    run(main)


class Odd(Exception):
    """Makes its instances in its own way."""

    def __new__(cls, *args: Any) -> Odd:
        return super().__new__(cls, *args)

    def __init__(self, thing: object) -> None:
        super().__init__(thing)


@step
async def fails(how: str) -> None:
    class Local(Exception):
        pass

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise {
        "local": Local("a local class"),
        "odd": Odd("its own way"),
        "object": ValueError(object()),
        "broken": Broken(),
        "exit": SystemExit(3),
        "stop": StopAsyncIteration("stop"),
        "cancelled": asyncio.CancelledError("by itself"),
        "generator": GeneratorExit("out"),
    }[how]


@step
def fails_in_a_thread(how: str) -> None:
    raise {"stop": StopIteration(7), "exit": SystemExit("bye"), "generator": GeneratorExit("out")}[how]


@workflow
async def sees(where: str, how: str) -> list[Any]:
    try:
        await {"task": fails, "thread": fails_in_a_thread}[where](how)
    except Exception as error:
        found = perdure.failure(error)
        assert found is not None
        kind = error.type if isinstance(error, StepFailed) else ""
        return [type(error).__name__, kind.rpartition(".")[2], found.message, str(error)]
    return []


@pytest.mark.parametrize(
    ("where", "how", "kind", "text"),
    [
        ("task", "local", "Local", "a local class"),
        ("task", "odd", "Odd", "its own way"),
        ("task", "object", "ValueError", "object object"),
        ("task", "broken", "Broken", ""),
        ("task", "exit", "SystemExit", "3"),
        ("task", "stop", "StopAsyncIteration", "stop"),
        ("task", "cancelled", "CancelledError", "by itself"),
        ("task", "generator", "GeneratorExit", "out"),
        ("thread", "stop", "StopIteration", "7"),
        ("thread", "exit", "SystemExit", "bye"),
        ("thread", "generator", "GeneratorExit", "out"),
    ],
)
def test_an_error_that_cannot_be_raised_again_comes_as_stepfailed(
    place: Place, where: str, how: str, kind: str, text: str
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(sees(where, how), id="a")
            assert told[:2] == ["StepFailed", kind]
            assert text in told[2]
            assert text in told[3]
            await works(engine)
        async with place.engine() as engine:
            assert await engine.run(sees(where, how), id="a") == told

    run(main)


@workflow
async def raises_itself(how: str) -> None:
    await says("first")
    raise {
        "exit": SystemExit(3),
        "generator": GeneratorExit("out"),
        "group": BaseExceptionGroup("both", [SystemExit(1), ValueError("x")]),
        "cancelled": asyncio.CancelledError("by itself"),
    }[how]


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("exit", RunFailed, "SystemExit"),
        ("generator", RunFailed, "GeneratorExit"),
        ("group", RunFailed, "both"),
        ("cancelled", perdure.RunCancelled, "cancelled"),
    ],
)
def test_workflow_code_that_wants_to_end_the_process_ends_its_run_only(
    place: Place, how: str, error: type[Exception], text: str
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(error, match=text):
                await engine.run(raises_itself(how), id="a")
            await works(engine)
            assert await engine.run(greets("again")) == "hello again"

    run(main)


@workflow
async def busy_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.filterwarnings(
    "ignore:coroutine 'busy_for' was never awaited:RuntimeWarning"
)  # hit before it began
def test_an_interruption_that_comes_as_the_turn_ends_leaves_the_thread_in_order(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 0.004
    # An interruption in a finaliser is only told of, and comes again. pytest's own telling can't stand one within.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def main() -> None:
        async with memory.engine(turn_limit=limit) as engine:
            for number in range(150):
                handle = await engine.start(busy_for(limit * (0.8 + number % 10 / 25)), id=f"a{number}")
                await reaches(handle, "completed", "blocked")
                assert asyncio.get_running_loop() is engine._loop
                assert not guard.guarded
        assert gc.isenabled()

    run(main)


def test_a_finally_block_that_spins_while_its_run_leaves_memory_is_interrupted(place: Place) -> None:
    @workflow(name="spinning.finally")
    async def finally_spins() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await spin("pass")

    async def main() -> None:
        async with place.engine(turn_limit=0.05) as engine:
            handle = await engine.start(finally_spins(), id="a")
            await reaches(handle, "waiting")
        async with place.engine(turn_limit=0.05) as engine:
            await works(engine)
            handle = engine.get("a")
            await handle.cancel()
            await reaches(handle, "blocked")
            await handle.terminate()
            await works(engine)

    run(main)
