"""Deaths on either side of a step that was sent to a queue: the run ends as if nothing had happened.

The engine that drives the run, or the one that executes its steps, dies at its n-th append, before or after that is
durable, for every n. Others take over, and the result and the recorded steps are those of a calm run. No body begins
again after its result is in the log, or on its way to its run by mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from elsewhere_kit import here, there
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, recorded, run, until

import perdure
from perdure import Done, Engine, Handle, Retry, step, workflow

LEDGERS: list[Ledger] = []


def begins() -> int:
    """What every body does first. Returns the attempt's number."""
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    return info.attempt


@step
async def does(label: str) -> str:
    begins()
    return label


@step(queue="gpu")
async def does_elsewhere(label: str) -> str:
    begins()
    await asyncio.sleep(0)
    return label


@step(queue="gpu")
def does_in_a_thread(label: str) -> str:
    begins()
    return label


@step(queue="gpu", retry=Retry(max_attempts=3, initial=0.001))
async def comes_third(label: str) -> str:
    if begins() < 3:
        raise ValueError(label)
    return label


@step(queue="gpu")
async def declines() -> None:
    begins()
    raise KeyError("no")


@step(queue="gpu")
async def lasts(label: str) -> str:
    """Longer than anybody waits."""
    await asyncio.sleep(60)
    return label


async def looks(label: str) -> Done[str] | None:
    return None


@step(queue="gpu", once=True, verify=looks)
async def once(label: str) -> str:
    return label


@workflow
async def sequential() -> str:
    return await does_elsewhere("a") + await does("b") + await does_in_a_thread("c")


@workflow
async def gathered() -> list[str]:
    return list(
        await asyncio.gather(does_elsewhere("a"), does("b"), does_elsewhere("c"), does_elsewhere("d"))
    )


@workflow
async def retried() -> str:
    try:
        await declines()
    except KeyError as error:
        return await comes_third(str(error.args[0])) + await does("y")
    return "never"


@workflow
async def times_out() -> str:
    try:
        async with asyncio.timeout(0.01):
            await lasts("x")
    except TimeoutError:
        return await does_elsewhere("timed out")
    return "never"


@workflow
async def inner(label: str) -> str:
    return await does_elsewhere(label)


@workflow
async def parent() -> str:
    return await inner("a") + await does_elsewhere("b")


@workflow
async def cleans_up() -> str:
    try:
        await does_elsewhere("a")
        await lasts("b")
    finally:
        await does_elsewhere("cleans")
    return "never"


@workflow
async def happens_once() -> str:
    return await once("a") + await once("b")


SHAPES = [sequential, gathered, retried, times_out, cleans_up, happens_once]


async def ends(handle: Handle[Any]) -> Any:
    try:
        return await handle.result()
    except perdure.RunError as error:
        return f"{type(error).__name__}: {error}"


async def drives(engine: Engine, shape: Any) -> Any:
    handle = await engine.start(shape(), id="a")
    if shape is cleans_up:

        async def has_begun() -> bool:
            return bool(await recorded(handle))

        await until(has_begun)
        await handle.cancel("enough")
    return await ends(handle)


async def undisturbed(place: Place, shape: Any) -> Any:
    LEDGERS.append(Ledger())
    async with here(place) as engine, there(place):
        return await drives(engine, shape), sorted(await recorded(engine.get("a")))


async def disturbed(place: Place, shape: Any, side: str, dies_at: int, commits: bool) -> tuple[Any, bool]:
    """Let one side die at its n-th append; tell how the run ended, and whether it died at all."""
    ledger = Ledger()
    LEDGERS.append(ledger)
    never = 1 << 30

    def wrap(mine: str) -> Callable[[Any], Any]:
        return lambda inner: Mortal(inner, dies_at if side == mine else never, commits, ledger)

    driving_engine, working_engine = here(place, wrap=wrap("here")), there(place, wrap=wrap("there"))
    await driving_engine.__aenter__()
    await working_engine.__aenter__()
    store: Any = (driving_engine if side == "here" else working_engine)._store
    driving = asyncio.ensure_future(drives(driving_engine, shape))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    for task in (driving, dying):
        task.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(driving_engine)
    await crash(working_engine)
    await bury(place)
    async with here(place) as engine, there(place):
        ended = await drives(engine, shape)
        steps = sorted(await recorded(engine.get("a")))
    assert ledger.repeated == []
    return (ended, steps), died


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("side", ["here", "there"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.rpartition(".")[2])
def test_a_death_at_any_append_changes_nothing(
    shape: Any, side: str, commits: bool, make_place: Places
) -> None:
    async def main() -> None:
        expected = await undisturbed(make_place(), shape)
        number, died = 0, True
        while died:
            number += make_place.stride
            found, died = await disturbed(make_place(), shape, side, number, commits)
            assert found == expected, f"died at append {number}"
        assert number > 1

    run(main)
