"""A cancellation and something else in one append: what comes first in the history counts, live and on replay."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cancel_kit import RESETS, SEEN, SIGHTS, begins, came, does, ends, fresh, hangs, replay, see
from engine_kit import Ledger, Mortal, Place, bury, crash, history, run, until

import perdure
from perdure import Engine, Handle, step, workflow
from perdure.core import events as ev
from perdure.runtime.driver import Driver

GATES: dict[str, asyncio.Event] = {}
RESETS.append(GATES.clear)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


@step
async def gated(label: str) -> str:
    begins(label)
    await GATES.setdefault(label, asyncio.Event()).wait()
    return label


@step
async def fails_at_gate(label: str) -> str:
    begins(label)
    await GATES.setdefault(label, asyncio.Event()).wait()
    raise ValueError(label)


@workflow
async def gated_child(label: str) -> str:
    return await gated(label)


async def timed_out() -> str:
    try:
        async with asyncio.timeout(3600):
            await hangs("timed")
    except TimeoutError:
        return "timed out"
    return "never"


async def failed() -> str:
    try:
        return await fails_at_gate("x")
    except ValueError:
        return "failed"


@dataclass(frozen=True)
class Racer:
    """Something that may happen together with a cancellation.

    Attributes:
        wait: what the code waits for.
        ready: the body that has begun when the code waits.
        happen: makes it happen; its event then goes into the driver's buffer.
    """

    wait: Callable[[], Awaitable[Any]]
    ready: str
    happen: Callable[[Engine, Driver], Any]
    event: type[ev.Event]


def open_gate(engine: Engine, driver: Driver) -> None:
    GATES["x"].set()


async def sends(engine: Engine, driver: Driver) -> None:
    await engine.get("a").send("m", "x")


TOKENS: list[str] = []


async def called_back() -> str:
    promise = perdure.callback(str)
    TOKENS.append(promise.token)
    return await promise


async def completes(engine: Engine, driver: Driver) -> None:
    await engine.callbacks.complete(TOKENS[-1], "x")


def fire(engine: Engine, driver: Driver) -> None:
    (timer,) = [item for item in driver.machine.operations.values() if hasattr(item, "handle")]
    driver.work._timer_due(timer)  # type: ignore[arg-type]


RACERS: dict[str, Racer] = {
    "step completion": Racer(lambda: gated("x"), "x", open_gate, ev.StepCompleted),
    "step failure": Racer(failed, "x", open_gate, ev.StepFailed),
    "timer": Racer(lambda: asyncio.sleep(3600, "slept"), "", fire, ev.TimerFired),
    "time-out": Racer(timed_out, "timed", fire, ev.TimerFired),
    "message": Racer(lambda: perdure.receive("m", str), "", sends, ev.MessageReceived),
    "callback": Racer(called_back, "", completes, ev.CallbackEnded),
    "child result": Racer(lambda: gated_child("x"), "x", open_gate, ev.ChildEnded),
}


@workflow
async def races(racer: str, goes_on: bool) -> str:
    """Waits for something, and then ends, or waits for something else."""
    try:
        got = await RACERS[racer].wait()
        see(f"got {got}")
        if goes_on:
            await hangs("after")
    except asyncio.CancelledError as error:
        see(f"cancelled: {error}")
        raise
    return "done"


def buffered(driver: Driver, kind: type[ev.Event]) -> bool:
    return any(isinstance(event, kind) for event, _ in driver._buffer)


async def in_one_append(engine: Engine, driver: Driver, racer: Racer, cancel_first: bool) -> None:
    """Let both happen while an append seems to be on its way."""
    driver._in_flight = True
    acts: list[tuple[Callable[[], Any], type[ev.Event]]] = [
        (lambda: engine.get("a").cancel("enough"), ev.CancelRequested),
        (lambda: racer.happen(engine, driver), racer.event),
    ]
    for act, kind in acts if cancel_first else reversed(acts):
        done = act()
        if asyncio.iscoroutine(done):
            await done
        await until(lambda kind=kind: buffered(driver, kind))
    assert len(driver._buffer) == 2
    driver._in_flight = False


async def is_ready(engine: Engine, racer: Racer) -> Driver:
    await until(lambda: not racer.ready or came(f"{racer.ready} began"))
    assert engine._worker is not None
    drivers = engine._worker.drivers

    def waits() -> bool:
        return any(driver.id == "a" and driver.machine.operations for driver in drivers.values())

    await until(waits)
    (driver,) = [driver for driver in drivers.values() if driver.id == "a"]
    await until(lambda: not driver.busy())
    return driver


def expected(racer: str, cancel_first: bool, goes_on: bool) -> tuple[str, int]:
    """How the run ends, and how many sights there are."""
    if cancel_first:
        return "RunCancelled: enough", 1
    return ("RunCancelled: enough", 2) if goes_on else ("completed: done", 1)


CASES = [
    pytest.param(racer, cancel_first, goes_on, id=f"{racer}-{order}-{then}")
    for racer in RACERS
    for cancel_first, order in ((True, "cancel first"), (False, "cancel second"))
    for goes_on, then in ((True, "goes on"), (False, "ends"))
]


@pytest.mark.parametrize(("racer", "cancel_first", "goes_on"), CASES)
def test_what_comes_first_counts(place: Place, racer: str, cancel_first: bool, goes_on: bool) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(races(racer, goes_on), id="a")
            driver = await is_ready(engine, RACERS[racer])
            await in_one_append(engine, driver, RACERS[racer], cancel_first)
            driver.flush()
            ended, sights = expected(racer, cancel_first, goes_on)
            assert await ends(handle) == ended
            seen = list(SIGHTS)
            assert len(seen) == sights
            assert seen[-1] == "cancelled: enough" or not goes_on
            assert not came("after began")  # it was never begun for nothing
            await replays(engine, handle, seen)

    run(main)


async def replays(engine: Engine, handle: Handle[Any], seen: list[str]) -> None:
    past = await history(handle)
    (row,) = await engine._store.get([handle.id])
    assert row is not None
    assert row.started_at is not None
    for length in range(1, len(past) + 1):
        SIGHTS.clear()
        finish = replay(past[:length], row.started_at)
        assert SIGHTS == seen[: len(SIGHTS)]
    assert SIGHTS == seen
    assert finish is not None


@pytest.mark.parametrize(("racer", "cancel_first", "goes_on"), CASES)
def test_a_worker_that_takes_over_between_both_and_their_consequences_sees_the_same(
    place: Place, racer: str, cancel_first: bool, goes_on: bool
) -> None:
    async def main() -> None:
        ledger = Ledger()
        engine = place.engine(lambda inner: Mortal(inner, 1_000_000, True, ledger))
        await engine.__aenter__()
        await engine.start(races(racer, goes_on), id="a")
        driver = await is_ready(engine, RACERS[racer])
        await in_one_append(engine, driver, RACERS[racer], cancel_first)
        store: Any = engine._store
        store.left = 1
        driver.flush()
        await store.dead.wait()
        await crash(engine)
        await bury(place)
        SIGHTS.clear()
        async with place.engine() as engine:
            handle = engine.get("a")
            ended, sights = expected(racer, cancel_first, goes_on)
            assert await ends(handle) == ended
            assert len(SIGHTS) == sights
            assert not came("after began")
            await replays(engine, handle, list(SIGHTS))

    run(main)


@workflow
async def receives_later() -> str:
    try:
        return await perdure.receive("m", str)
    except asyncio.CancelledError:
        see("cancelled")
    return f"later: {await perdure.receive('m', str)}"


def test_a_message_that_comes_with_a_cancellation_is_there_for_the_next_receive(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(receives_later(), id="a")
            driver = await is_ready(engine, RACERS["message"])
            await in_one_append(engine, driver, RACERS["message"], cancel_first=True)
            driver.flush()
            assert await ends(handle) == "completed: later: x"
            await replays(engine, handle, ["cancelled"])

    run(main)


@workflow
async def cleans_up(cleans: bool) -> str:
    try:
        await hangs("x")
    except asyncio.CancelledError as error:
        see(f"cancelled: {error}")
        if cleans:
            await does("cleans")
    return "all the same"


PASSES = Racer(lambda: hangs("x"), "x", lambda engine, driver: driver.deadline_passed(), ev.DeadlinePassed)


@pytest.mark.parametrize("cleans", [True, False])
@pytest.mark.parametrize("cancel_first", [True, False])
def test_a_deadline_that_passes_before_the_code_has_ended_names_the_end(
    place: Place, cancel_first: bool, cleans: bool
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(cleans_up(cleans), id="a", timeout=3600)
            driver = await is_ready(engine, PASSES)
            await in_one_append(engine, driver, PASSES, cancel_first)
            driver.flush()
            in_time = cancel_first and not cleans
            assert await ends(handle) == ("completed: all the same" if in_time else "RunTimedOut: ")
            assert SIGHTS == ["cancelled: enough" if cancel_first else "cancelled: the run's timeout is over"]
            await replays(engine, handle, list(SIGHTS))

    run(main)


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["cancel", "terminate", "deadline"])), ids="-".join
)
@pytest.mark.parametrize("cleans", [True, False])
def test_termination_with_compensation_wins_while_the_code_runs(
    place: Place, order: tuple[str, ...], cleans: bool
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(cleans_up(cleans), id="a", timeout=3600)
            driver = await is_ready(engine, PASSES)
            driver._in_flight = True
            for what in order:
                before = len(driver._buffer)
                if what == "deadline":
                    driver.deadline_passed()
                elif what == "cancel":
                    await handle.cancel(what)
                else:
                    await handle.terminate(what, compensate=True)
                await until(lambda before=before: len(driver._buffer) > before)
            driver._in_flight = False
            driver.flush()
            first = {"cancel": "completed: all the same", "deadline": "RunTimedOut: "}
            ended = "RunTerminated: terminate" if cleans else first.get(order[0], "RunTerminated: terminate")
            assert await ends(handle) == ended
            told = "the run's timeout is over" if order[0] == "deadline" else order[0]
            assert SIGHTS == [f"cancelled: {told}"]
            await replays(engine, handle, list(SIGHTS))

    run(main)


def test_a_tight_loop_of_short_steps_is_cancelled_within_one_step(place: Place) -> None:
    """Steps that are over at once don't keep the cancellation away, and none begins after it is recorded."""

    @step(name="races.short")
    async def short(number: int) -> int:
        SEEN.append("short")
        return number

    @workflow(name="races.loops")
    async def loops() -> None:
        for number in range(1_000_000):
            await short(number)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(loops(), id="a")
            await until(lambda: len(SEEN) > 20)
            await handle.cancel("enough")
            assert await ends(handle) == "RunCancelled: enough"
            kinds = [type(event) for event in await history(handle)]
            place_of = kinds.index(ev.CancelRequested)
            after = [kind for kind in kinds[place_of + 1 :] if kind is ev.StepCompleted]
            assert len(after) <= 1  # what was on its way with it
            assert len(SEEN) == kinds.count(ev.StepCompleted)

    run(main)
