"""A crash at any append of a run that is updated: each update happens once, and its caller has its answer.

The callers are in another process than the worker: they live on while that dies at its n-th append and another
takes over, and must be answered then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, history, recorded, run

import perdure
from perdure import Handle, RunEndedError, UpdateRejected, events, step, workflow

LEDGERS: list[Ledger] = []


@step
async def does(label: str) -> str:
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    await asyncio.sleep(0)
    return label


@workflow
async def inner(label: str) -> str:
    return await does(label)


@workflow
async def updated(patience: float) -> list[str]:
    """Ends when it is closed, or when it has waited for long enough."""
    seen: list[str] = []
    closed = asyncio.Event()

    def check(label: str) -> None:
        if label == "no":
            raise ValueError("no")

    @perdure.on_update(validator=check)
    async def add(label: str) -> int:
        seen.append(label)
        if label == "fails":
            raise ValueError(label)
        await does(label)
        seen.append(await inner(f"inner {label}"))
        await asyncio.sleep(0.002)
        return len(seen)

    @perdure.on_update
    def note(label: str) -> int:
        seen.append(label)
        return len(seen)

    @perdure.on_update
    def close() -> str:
        closed.set()
        return "closed"

    try:
        async with asyncio.timeout(patience):
            await closed.wait()
    except TimeoutError:
        await does("waited")
    return seen


async def answer(update: Awaitable[Any]) -> Any:
    """What a caller gets: a value, or the kind of its error."""
    try:
        return await update
    except RunEndedError:
        return "RunEndedError"
    except (UpdateRejected, ValueError) as error:
        return f"{type(error).__name__}: {error}"


async def one_after_the_other(handle: Handle[Any]) -> list[Any]:
    return [
        await answer(handle.update("note", "first", key="1")),
        await answer(handle.update("add", "a", key="2")),
        await answer(handle.update("add", "no", key="3")),
        await answer(handle.update("add", "fails", key="4")),
        await answer(handle.update("add", "a", key="2")),
        await answer(handle.update("close", key="5")),
        await handle.result(),
        await answer(handle.update("add", "a", key="2")),
        await answer(handle.update("add", "no", key="3")),
        await answer(handle.update("add", "late", key="6")),
    ]


CALM = [
    1,
    3,
    "UpdateRejected: no",
    "ValueError: fails",
    3,
    "closed",
    ["first", "a", "inner a", "fails"],
    3,
    "UpdateRejected: no",
    "RunEndedError",
]


async def two_that_race_with_the_end(handle: Handle[Any]) -> list[Any]:
    calls = [
        handle.update("add", "a", key="a"),
        handle.update("close", key="c"),
        handle.update("note", "n", key="n"),
    ]
    return [*await asyncio.gather(*map(answer, calls)), await handle.result()]


async def one_that_races_with_the_end(handle: Handle[Any]) -> list[Any]:
    calls = [handle.update("add", "a", key="a"), handle.update("note", "n", key="n")]
    return [*await asyncio.gather(*map(answer, calls)), await handle.result()]


SCENARIOS: list[tuple[Callable[[Handle[Any]], Awaitable[list[Any]]], float]] = [
    (one_after_the_other, 60.0),
    (two_that_race_with_the_end, 60.0),
    (one_that_races_with_the_end, 0.004),
]


async def check(handle: Handle[Any], answers: list[Any]) -> None:
    """What holds however the race has gone: who has an answer has been handled, and nobody else."""
    told = await history(handle)
    accepted = [event.update for event in told if isinstance(event, events.UpdateAccepted)]
    completed = [event for event in told if isinstance(event, events.UpdateCompleted)]
    assert len(set(accepted)) == len(accepted)
    assert {event.op for event in completed} <= set(accepted)
    assert len({event.op for event in completed}) == len(completed)
    assert isinstance(told[-1], events.RunCompleted)
    await recorded(handle)
    *given, result = answers
    assert len(completed) == len([value for value in given if value != "RunEndedError"])
    begun = [event.input for event in told if isinstance(event, events.UpdateAccepted)]
    for label in ("a", "n"):
        assert (label in result) == (f'[["{label}"],{{}}]'.encode() in begun)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize(
    ("scenario", "patience"), SCENARIOS, ids=lambda item: getattr(item, "__name__", None)
)
def test_a_crash_at_any_append_loses_no_update_and_repeats_none(
    scenario: Callable[[Handle[Any]], Awaitable[list[Any]]],
    patience: float,
    commits: bool,
    make_place: Places,
) -> None:
    async def disturbed(place: Place, dies_at: int) -> bool:
        ledger = Ledger()
        LEDGERS.append(ledger)
        async with place.engine(worker=False) as client:
            handle = await client.start(updated(patience), id="r")
            (row,) = await client._store.get(["r"])
            assert row is not None
            ledger.ids[row.run] = "r"
            calling = asyncio.ensure_future(scenario(handle))
            engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledger))
            await engine.__aenter__()
            store: Any = engine._store
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([calling, dying], return_when=asyncio.FIRST_COMPLETED)
            died = bool(store.dead.is_set())
            dying.cancel()
            await crash(engine)
            await bury(place)
            async with place.engine():
                answers = await calling
                if scenario is one_after_the_other:
                    assert answers == CALM
                else:
                    await check(handle, answers)
        assert ledger.repeated == []
        return died

    async def main() -> None:
        number = 1
        while await disturbed(make_place(), number):
            number += make_place.stride
        assert number > 3

    run(main)
