"""Code that doesn't fit a history blocks the run with a readable reason, harms nothing, and heals by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import Place, bury, crash, greets, history, reaches, recorded, redefine, run, until, works

from perdure import Status, events, step, workflow
from perdure.runtime import definitions

NAME = "divergence.subject"
BODIES: Counter[str] = Counter()


@step(name="divergence.does")
async def does(label: str) -> str:
    BODIES[label] += 1
    return label


@step(name="divergence.other")
async def other(label: str) -> str:
    BODIES[f"other {label}"] += 1
    return label


async def original(label: str) -> list[str]:
    told = [await does(label), await does("second")]
    await asyncio.sleep(3600)
    return [*told, await does("third")]


async def swapped(label: str) -> list[str]:
    told = [await does("second"), await does(label)]
    await asyncio.sleep(3600)
    return [*told, await does("new effect")]


async def renamed(label: str) -> list[str]:
    told = [await does(label), await other("second")]
    return [*told, await does("new effect")]


async def shortened(label: str) -> list[str]:
    return [await does(label)]


async def inserted(label: str) -> list[str]:
    told = [await does(label)]
    await asyncio.sleep(36)
    return [*told, await does("second"), await does("new effect")]


async def untimed(label: str) -> list[str]:
    return [await does(label), await does("second"), await does("third")]


async def raising(label: str) -> list[str]:
    await does(label)
    raise ValueError("new code, new trouble")


async def more_parameters(label: str, tone: str) -> list[str]:
    return [await does(label), tone]


async def other_type(label: int) -> list[str]:
    return [await does(str(label)), await does("second")]


CODES: dict[Callable[..., Any], list[str]] = {
    swapped: ["history says", '["first"]', "code says", "what to do"],
    renamed: ["history says", "divergence.does#2", "code says", "divergence.other"],
    shortened: ["history says", "divergence.does#2", "has ended"],
    inserted: ["history says", "divergence.does#2", "timer", "divergence.py:"],
    raising: ["history says", "has ended"],
    more_parameters: ["tone", "signature"],
    other_type: ["int"],
}


async def interrupted(place: Place) -> None:
    """The original code has recorded two steps and waits for its timer when its engine dies."""
    BODIES.clear()
    async with place.engine() as engine:
        handle = await engine.start(redefine(NAME, original)("first"), id="a")

        async def waits() -> bool:
            return any(isinstance(event, events.TimerStarted) for event in await history(handle))

        await until(waits)
        await crash(engine)
    await bury(place)
    place.ahead += 3600  # the timer is due now


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.__name__)
def test_other_code_is_refused_before_it_does_anything_and_the_old_code_goes_on(
    place: Place, code: Callable[..., Any]
) -> None:
    async def main() -> None:
        await interrupted(place)
        redefine(NAME, code)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason or ""
            assert [word for word in CODES[code] if word not in reason] == [], reason
            if code not in (shortened, raising, more_parameters, other_type):  # where it still stands
                assert f"{__file__}:" in reason, reason
            assert [item.id async for item in engine.runs(status=Status.BLOCKED)] == ["a"]
            await works(engine)
            assert BODIES == {"first": 1, "second": 1}
            before = len(await history(handle))
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0.01)
        async with place.engine() as engine:  # again with the wrong code: blocked again, nothing added
            await reaches(engine.get("a"), "blocked")
            assert len(await history(engine.get("a"))) == before
        redefine(NAME, original)
        async with place.engine() as engine:
            handle = engine.get("a")
            assert await handle.result() == ["first", "second", "third"]
            assert (await handle.info()).reason is None
            assert len(await recorded(handle)) == 3
        assert BODIES == {"first": 1, "second": 1, "third": 1}

    run(main)


def test_a_timer_the_code_has_no_more_is_a_divergence_too(place: Place) -> None:
    async def main() -> None:
        await interrupted(place)
        redefine(NAME, untimed)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            assert "timer" in ((await handle.info()).reason or "")
            assert BODIES == {"first": 1, "second": 1}

    run(main)


def test_a_blocked_run_can_be_cancelled_later_and_terminated_now(place: Place) -> None:
    async def main() -> None:
        await interrupted(place)
        redefine(NAME, swapped)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            await handle.cancel("it stays blocked, but the request is kept")
            await asyncio.sleep(0.05)
            assert await handle.status() == "blocked"
        redefine(NAME, original)
        async with place.engine() as engine:
            await reaches(engine.get("a"), "cancelled")
        await interrupted(Place(None))
        redefine(NAME, original)

    run(main)


def test_terminating_a_blocked_run_works(place: Place) -> None:
    async def main() -> None:
        await interrupted(place)
        redefine(NAME, swapped)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            await handle.terminate("given up")
            await reaches(handle, "terminated")

    run(main)


def test_a_workflow_nobody_knows_is_blocked_until_somebody_does(place: Place) -> None:
    async def unknown(label: str) -> str:
        return await does(label)

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(redefine("divergence.unknown", unknown)("x"), id="a")
            del definitions._workflows["divergence.unknown"]
            async with place.engine() as engine:
                await reaches(handle, "blocked")
                reason = (await handle.info()).reason or ""
                assert "no worker knows" in reason.lower()
                assert "divergence.unknown" in reason
                await works(engine)
                redefine("divergence.unknown", unknown)  # a module is imported later
                assert await handle.result() == "x"

    run(main)


def test_a_run_is_not_claimed_by_a_worker_of_another_queue(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(greets("you"), queue="elsewhere")
            await reaches(handle, "blocked")
            assert "elsewhere" in ((await handle.info()).reason or "")
            async with place.engine(queues=["elsewhere", "default"]):
                assert await handle.result() == "hello you"

    run(main)


TURNS: list[int] = []


def test_code_that_depends_on_the_process_is_found_out(place: Place) -> None:
    @workflow(name="divergence.impure")
    async def impure() -> str:
        TURNS.append(1)
        first = await does(f"turn {len(TURNS)}")
        await asyncio.sleep(3600)
        return first

    async def main() -> None:
        TURNS.clear()
        async with place.engine() as engine:
            handle = await engine.start(impure(), id="a")

            async def begun() -> bool:
                return bool(await recorded(handle))

            await until(begun)
            await crash(engine)
        await bury(place)
        place.ahead += 3600
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason or ""
            assert "turn 1" in reason
            assert "turn 2" in reason
            assert "isn't recorded" in reason

    run(main)
