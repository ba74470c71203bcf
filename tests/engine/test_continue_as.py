"""`continue_as`: a run goes on under its id, with another call and an empty history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine_kit import Ledger, Place, Places, bury, history, of_kind, reaches, run, says
from test_engine_crashes import LEDGERS, Mortal, crash, does, inner, suppress

import perdure
from perdure import Engine, RunFailed, events, step, workflow
from perdure.errors import UsageError

KEYS: list[str] = []


@pytest.fixture(autouse=True)
def ledger() -> None:
    """The steps of the crash tests want one."""
    LEDGERS.append(Ledger())


@workflow
async def counts(left: int, total: int = 0) -> int:
    total += len(await says("x" * left))
    if left > 1:
        perdure.continue_as(counts(left - 1, total))
    return total


@step
async def keeps_key() -> None:
    KEYS.append(perdure.idempotency_key())


@workflow
async def keyed(left: int) -> list[int]:
    await keeps_key()
    if left:
        perdure.continue_as(keyed(left - 1))
    return [perdure.info().generation]


@workflow
async def changes_into(left: int) -> int:
    try:
        perdure.continue_as(counts(left))
    except Exception:
        return -1


@workflow
async def with_child(left: int) -> str:
    word = await inner(f"{left}")
    if left:
        perdure.continue_as(with_child(left - 1))
    return word


@workflow
async def above(left: int) -> int:
    return await counts(left)


@workflow
async def leaves_a_child() -> str:
    await perdure.start(sleeps(), id="cancelled")
    await perdure.start(sleeps(), id="abandoned", on_parent_close="abandon")
    perdure.continue_as(ends_at_once())


@workflow
async def sleeps() -> None:
    await asyncio.sleep(1000)


@workflow
async def ends_at_once() -> str:
    return "the end"


def test_a_chain_ends_with_the_result_of_its_last_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(counts(4), id="r")
            assert await handle.result() == 4 + 3 + 2 + 1
            assert await engine.run(counts(4), id="r2") == 10
            assert await engine.run(counts(4), id="r2") == 10  # the same start still means this run
            info = await handle.info()
            assert (info.generation, info.status) == (4, "completed")
            for number in (1, 2, 3):
                found = [event async for event in handle.history(generation=number)]
                assert isinstance(found[0], events.RunStarted)
                assert found[0].generation == number
                assert isinstance(found[-1], events.RunContinued)
                assert (await handle.info(generation=number)).status == "continued"
            assert isinstance((await history(handle))[-1], events.RunCompleted)
            with pytest.raises(perdure.UnknownRunError, match="no generation 5"):
                await handle.info(generation=5)
            assert [item.id async for item in engine.runs()] == ["r2", "r"]

    run(main)


def test_each_generation_has_idempotency_keys_of_its_own(memory: Place) -> None:
    async def main() -> None:
        KEYS.clear()
        async with memory.engine() as engine:
            assert await engine.run(keyed(2), id="r") == [3]
        assert len(set(KEYS)) == 3

    run(main)


def test_another_workflow_may_follow_and_except_exception_swallows_nothing(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(changes_into(2), id="r")
            assert await handle.result() == 3
            assert (await handle.info()).workflow == counts.name

    run(main)


def test_children_of_every_generation_are_its_own(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(with_child(2), id="r") == "0+"
            ids = {item.id async for item in engine.runs()}
            name = inner.name
            assert ids == {"r", f"r/{name}#1", f"r~2/{name}#1", f"r~3/{name}#1"}

    run(main)


def test_a_parent_hears_only_of_the_last_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(above(3), id="r")
            assert await handle.result() == 6
            assert len(await of_kind(handle, events.ChildEnded)) == 1
            child = engine.get(f"r/{counts.name}#1")
            assert (await child.info()).generation == 3
            assert (await child.info()).parent == "r"

    run(main)


def test_live_children_are_treated_as_at_any_end(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(leaves_a_child(), id="r") == "the end"
            await reaches(engine.get("cancelled"), "cancelled")
            assert not (await engine.get("abandoned").status()).final

    run(main)


@workflow
async def continues_when_cancelled(left: int) -> int:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        if left:
            perdure.continue_as(continues_when_cancelled(left - 1))
        raise
    return left


def test_each_generation_can_be_cancelled_by_itself(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(continues_when_cancelled(1), id="r")
            await reaches(handle, "waiting")
            await handle.cancel("first")

            async def second() -> bool:
                return (await handle.info()).generation == 2

            await wait_for(second)
            await handle.cancel("second")
            with pytest.raises(perdure.RunCancelled, match="second"):
                await handle.result()

    run(main)


async def wait_for(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.005)


def test_the_timeout_is_that_of_the_whole_chain(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(spins_on(), id="r", timeout=3600)

            async def goes_on() -> bool:
                return (await handle.info()).generation > 1

            await wait_for(goes_on)
        memory.ahead += 3600
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunTimedOut):
                await engine.get("r").result()

    run(main)


@workflow
async def spins_on() -> None:
    await asyncio.sleep(0.01)
    perdure.continue_as(spins_on())


def test_what_cant_be_recorded_fails_the_run(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(RunFailed, match="continue_as\\(\\) takes the call of a workflow"):
                await engine.run(misuses(), id="r")

    run(main)


@workflow
async def misuses() -> None:
    perdure.continue_as(says("a step"))


def test_outside_of_engines_it_goes_on_plainly() -> None:
    assert asyncio.run(counts(3)) == 6


def test_a_step_cant_continue_its_run(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(UsageError, match="only in workflow code"):
                await engine.run(lets_a_step_continue(), id="r")

    with pytest.raises(RunFailed):
        run(main)


@step
async def continues() -> None:
    perdure.continue_as(counts(1))


@workflow
async def lets_a_step_continue() -> None:
    await continues()


# -- crashes ------------------------------------------------------------------------------------------


@workflow
async def chain(left: int, words: list[str]) -> list[str]:
    words = [*words, await does(f"g{left}"), await inner(f"c{left}")]
    await asyncio.sleep(0.001)
    if left:
        perdure.continue_as(chain(left - 1, words))
    return words


async def bodies_and_outcome(engine: Engine) -> tuple[list[str], dict[str, int]]:
    handle = await engine.start(chain(2, []), id="a")
    result = await handle.result()
    chains = {item.id: item.generation async for item in engine.runs(limit=None)}
    for number in range(1, chains["a"] + 1):
        found = [event async for event in handle.history(generation=number)]
        steps = [event.step for event in found if isinstance(event, events.StepCompleted)]
        assert len(steps) == len(set(steps)) == 1
    return result, chains


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_of_a_chain_changes_nothing(commits: bool, make_place: Places) -> None:
    """No generation comes twice, none is skipped, and every step is recorded once."""

    async def main() -> None:
        LEDGERS.append(Ledger())
        async with make_place().engine() as engine:
            expected = await bodies_and_outcome(engine)
        number, died = 0, True
        while died:
            number += make_place.stride
            place = make_place()
            LEDGERS.append(Ledger())
            engine = place.engine(lambda store, at=number: Mortal(store, at, commits, Ledgerless()))
            await engine.__aenter__()
            store: Any = engine._store
            driving = asyncio.ensure_future(bodies_and_outcome(engine))
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            driving.cancel()
            dying.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                assert await bodies_and_outcome(engine) == expected, f"died at append {number}"
        assert number > 12

    run(main)


class Ledgerless(Ledger):
    """Keeps no account: run keys of later generations aren't announced to it."""

    def committed(self, append: Any) -> None:
        pass


# -- messages -----------------------------------------------------------------------------------------


@workflow
async def hears(heard: list[int], wanted: int) -> list[int]:
    """Takes one message, and goes on with the next generation."""
    heard = [*heard, await perdure.receive("n", int)]
    await does(f"{len(heard)}")
    if len(heard) < wanted:
        perdure.continue_as(hears(heard, wanted))
    return heard


def test_messages_go_over_in_their_order(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(hears([], 20), id="r")
            for number in range(20):
                await handle.send("n", number, key=f"k{number}")
                await handle.send("n", number, key=f"k{number}")  # whichever generation had it
            assert await handle.result() == list(range(20))
            assert (await handle.info()).generation == 20

    run(main)


async def hears_all(engine: Engine) -> list[int]:
    handle = await engine.start(hears([], 4), id="a")
    with suppress(perdure.RunEndedError):
        for number in range(4):
            await handle.send("n", number, key=f"k{number}")
    return await handle.result()


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_no_message_is_lost_by_a_crash_between_generations(commits: bool, make_place: Places) -> None:
    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            place = make_place()
            engine = place.engine(lambda store, at=number: Mortal(store, at, commits, Ledgerless()))
            await engine.__aenter__()
            store: Any = engine._store
            driving = asyncio.ensure_future(hears_all(engine))
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            driving.cancel()
            dying.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                assert await hears_all(engine) == [0, 1, 2, 3], f"died at append {number}"
        assert number > 6

    run(main)


def test_a_long_history_is_told_of(
    memory: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = perdure.Bounds(warn_events=5)
    monkeypatch.setattr("perdure.api.runinfo._BOUNDS", bounds)

    async def main() -> None:
        async with memory.engine(bounds=bounds) as engine:
            handle = await engine.start(says_and_sleeps(6), id="long")
            await reaches(handle, "waiting")
            warning = (await handle.info()).warning
            assert warning is not None
            assert "continue_as" in warning
            short = await engine.start(says_and_sleeps(1), id="short")
            await reaches(short, "waiting")
            assert (await short.info()).warning is None

    run(main)
    told = [record.getMessage() for record in caplog.records if "continue_as" in record.getMessage()]
    assert len(told) == 1
    assert "run long goes on, but the history has 5 events" in told[0]


@workflow
async def says_and_sleeps(times: int) -> None:
    for number in range(times):
        await says(f"{number}")
    await asyncio.sleep(1000)
