"""A crash at any append of a run, before or after it is durable: the run ends as if nothing had happened.

For every workflow shape and every n, an engine dies at its n-th append and another one takes over. The
result and the set of recorded steps are those of an undisturbed run, no step is recorded twice, and no
step's body begins again once its outcome is recorded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, Refusing, bury, crash, recorded, run, until

import perdure
from perdure import Engine, Handle, Rate, RateLimit, RateLimited, Retry, step, workflow

LEDGERS: list[Ledger] = []


def begins() -> int:
    """What every body does first. Returns the attempt's number."""
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    return info.attempt


@step
async def does(label: str) -> str:
    begins()
    await asyncio.sleep(0)
    return label


@step
def does_in_a_thread(label: str) -> str:
    begins()
    return label


@step
async def fails(label: str) -> str:
    begins()
    raise ValueError(label)


@step(retry=Retry(initial=0.001))
async def comes_third(label: str) -> str:
    if begins() < 3:
        raise OSError(label)
    return label


@workflow
async def sequential() -> list[str]:
    return [await does("a"), await does_in_a_thread("b"), await does("c")]


@workflow
async def gathered() -> list[str]:
    return await asyncio.gather(does("a"), does_in_a_thread("b"), comes_third("c"), does("d"))


async def does_and_fails() -> None:
    await does("a")
    await fails("b")


@workflow
async def group_fails() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(does_and_fails())
            group.create_task(asyncio.sleep(60))
    except ExceptionGroup as errors:
        return await does(str(errors.exceptions[0]))
    return "never"


@workflow
async def retried() -> str:
    return await comes_third("x") + await does("y")


@workflow
async def timed() -> str:
    first = await does("a")
    await asyncio.sleep(0.005)
    return first + await does("b")


@workflow
async def inner(label: str) -> str:
    return await does(label) + await does("+")


@workflow
async def parent() -> list[str]:
    started = await perdure.start(inner("s"), id="started")
    return [await inner("a"), await does("b"), await started.result()]


@workflow
async def cleans_up() -> str:
    try:
        await does("a")
        await asyncio.sleep(60)
    finally:
        await does("cleans")
        await asyncio.sleep(0.005)
        await does("cleaned")
    return "never"


@workflow
async def times_out() -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        return await does("timed out")
    return "never"


#: The second one at once has to wait, which is written down.
PACED = RateLimit("paced", requests=Rate(100, per=1, burst=1))


@pytest.fixture(autouse=True)
def no_wait_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """To get a place in line, so that it needn't be long."""
    monkeypatch.setattr("perdure.core.limiting.HORIZON", 0)


@step(limit=PACED)
async def paced(label: str) -> str:
    begins()
    return label


@step(limit=PACED)
async def turned_away(label: str) -> str:
    begins()
    info = perdure.step_info()
    if LEDGERS[-1].bodies[f"{info.run_id}:{info.step_id}"] == 1:
        raise RateLimited(after=0.01)
    return label


@workflow
async def limited() -> list[str]:
    return await asyncio.gather(paced("a"), turned_away("b"))


SHAPES = [limited, sequential, gathered, group_fails, retried, timed, parent, cleans_up, times_out]


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


async def steps_of(engine: Engine) -> dict[str, list[str]]:
    """Every run's recorded steps."""
    return {item.id: sorted(await recorded(engine.get(item.id))) async for item in engine.runs(limit=None)}


async def undisturbed(place: Place, shape: Any) -> tuple[Any, dict[str, list[str]]]:
    LEDGERS.append(Ledger())
    async with place.engine() as engine:
        return await drives(engine, shape), await steps_of(engine)


async def life(place: Place, shape: Any, ledger: Ledger, dies_at: int, commits: bool) -> bool:
    """Let an engine drive until it dies at its n-th append, or is done. Returns whether it died."""
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledger))
    await engine.__aenter__()
    store: Any = engine._store
    driving = asyncio.ensure_future(drives(engine, shape))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = bool(store.dead.is_set())
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    return died


async def disturbed(
    place: Place, shape: Any, dies_at: int, commits: bool
) -> tuple[Any, dict[str, list[str]], bool]:
    """Die at the n-th append, take over, and tell how it ended, and whether it died at all."""
    ledger = Ledger()
    LEDGERS.append(ledger)
    died = await life(place, shape, ledger, dies_at, commits)
    async with place.engine() as engine:
        ended = await drives(engine, shape)
        steps = await steps_of(engine)
    assert ledger.repeated == []
    return ended, steps, died


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.rpartition(".")[2])
def test_a_crash_at_any_append_changes_nothing(shape: Any, commits: bool, make_place: Places) -> None:
    async def main() -> None:
        expected = await undisturbed(make_place(), shape)
        number, died = 0, True
        while died:
            number += make_place.stride
            *found, died = await disturbed(make_place(), shape, number, commits)
            assert tuple(found) == expected, f"died at append {number}"
        assert number > 2

    run(main)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.rpartition(".")[2])
def test_a_store_that_refuses_writes_for_a_while_changes_nothing(
    shape: Any, make_place: Places, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        expected = await undisturbed(make_place(), shape)
        ledger = Ledger()
        LEDGERS.append(ledger)
        async with make_place().engine(
            lambda inner: Refusing(inner, lambda number: number in (1, 3, 4))
        ) as engine:
            assert (await drives(engine, shape), await steps_of(engine)) == expected
            assert engine._worker is not None
            assert engine._worker.journal.trouble is None
            store: Any = engine._store
            return int(store.refused)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.runtime.journal.RETRY_FIRST", 0.005)
        refused = run(main)
    assert refused >= 2
    told = [record for record in caplog.records if record.name == "perdure.journal"]
    complaints = [record for record in told if record.levelname == "ERROR"]
    assert 1 <= len(complaints) <= 2  # one for each time of trouble, not one for each refusal
    assert "nothing is lost" in complaints[0].getMessage()
    assert [record for record in told if record.levelname == "CRITICAL"] == []
