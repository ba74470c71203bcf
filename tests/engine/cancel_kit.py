"""What the tests of cancelling share: scenarios that run live, replay, and survive a crash at each append."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine_kit import Ledger, Mortal, Place, Places, bury, crash, history, until

import perdure
from perdure import Call, Engine, Handle, events, step
from perdure.api.call import current_machine
from perdure.codec.failures import step_exception
from perdure.core.commands import Finish
from perdure.core.machine import Machine
from perdure.runtime.definitions import workflow_named
from perdure.runtime.outcomes import child_error

#: What bodies of steps did, in all lives of a run.
SEEN: list[str] = []

#: What the code of workflows saw, in the life that is being looked at.
SIGHTS: list[str] = []

LEDGERS: list[Ledger] = [Ledger()]

#: Called before each experiment.
RESETS: list[Callable[[], object]] = []


def see(sight: str) -> None:
    """Said by workflow code; not by code that is leaving memory."""
    machine = current_machine()
    if machine is not None and not machine.inert:
        SIGHTS.append(sight)


def begins(name: str) -> None:
    """What every body does first."""
    SEEN.append(f"{name} began")
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)


@step
async def does(label: str) -> str:
    begins(label)
    await asyncio.sleep(0)
    return label


@step
async def hangs(label: str) -> str:
    """Executes until it is interrupted."""
    begins(label)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        SEEN.append(f"{label} interrupted")
        raise
    return label


def fresh() -> None:
    """A new experiment begins."""
    SEEN.clear()
    SIGHTS.clear()
    LEDGERS.append(Ledger())
    for reset in RESETS:
        reset()


def came(what: str) -> bool:
    return what in SEEN


@dataclass(frozen=True)
class Scenario:
    """A run, what comes to it from outside, and how it must end.

    Attributes:
        act: does what comes from outside; in each life again, so it must be harmless to repeat.
        outcome: how the run ends, see `ends`.
        steps: the steps of all runs whose outcome is recorded in the end, by their labels.
        others: the statuses of the other runs, by id.
    """

    call: Callable[[], Call[Any]]
    act: Callable[[Engine, Handle[Any]], Awaitable[None]]
    outcome: str
    steps: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


async def ends(handle: Handle[Any]) -> str:
    """How a run ends, in one line."""
    try:
        return f"completed: {await handle.result()}"
    except perdure.RunError as error:
        cause = "" if error.__cause__ is None else f" < {type(error.__cause__).__name__}: {error.__cause__}"
        return f"{type(error).__name__}: {str(error).partition(': ')[2]}{cause}"


async def labels(engine: Engine) -> tuple[str, ...]:
    """The labels of all steps whose outcome is recorded, sorted."""
    found: list[str] = []
    async for info in engine.runs(limit=None):
        for event in await history(engine.get(info.id)):
            if isinstance(event, events.StepCompleted | events.StepFailed):
                assert event.input is not None
                found.append(event.input.decode().split('"')[1] if b'"' in event.input else event.step)
    return tuple(sorted(found))


async def drives(engine: Engine, scenario: Scenario) -> str:
    handle = await engine.start(scenario.call(), id="a", **dict(scenario.options))
    acting = asyncio.ensure_future(scenario.act(engine, handle))
    try:
        outcome = await ends(handle)
        await acting
        return outcome
    finally:
        acting.cancel()
        with suppress(asyncio.CancelledError, perdure.PerdureError):
            await acting


async def settled(engine: Engine) -> None:
    """Wait until every run has ended."""

    async def all_ended() -> bool:
        return all([info.status.final async for info in engine.runs(limit=None)])

    await until(all_ended)


async def check_end(engine: Engine, scenario: Scenario, outcome: str, when: str) -> None:
    await settled(engine)
    others = {info.id: str(info.status) async for info in engine.runs(limit=None) if info.id != "a"}
    found = (outcome, await labels(engine), others)
    assert found == (scenario.outcome, tuple(sorted(scenario.steps)), dict(scenario.others)), when


async def lives(place: Place, scenario: Scenario) -> None:
    """Live, undisturbed; then the whole history and each of its beginnings is replayed."""
    fresh()
    async with place.engine() as engine:
        outcome = await drives(engine, scenario)
        await check_end(engine, scenario, outcome, "live")
        past = await history(engine.get("a"))
        row = (await engine._store.get(["a"]))[0]
        assert row is not None
        assert row.started_at is not None
    seen = list(SIGHTS)
    for length in range(1, len(past) + 1):
        SIGHTS.clear()
        finish = replay(past[:length], row.started_at)
        assert SIGHTS == seen[: len(SIGHTS)], f"replay of {length} events"
    assert SIGHTS == seen
    assert isinstance(past[-1], events.RunTerminated) or finish is not None


def replay(past: list[events.Event], at: float, run_id: str = "a") -> Finish | None:
    """Feed a history to a machine; a divergence raises. Returns the code's end if it got there."""
    first = past[0]
    assert isinstance(first, events.RunStarted)
    definition = workflow_named(first.workflow)
    assert definition is not None
    machine = Machine(run_id, first.workflow, definition.begin, step_exception, child_error, 1 << 20)
    machine.replaying = True
    machine.begin(first, at)
    for event in past[1:]:
        machine.feed(event)
    ends = [command for command in machine.take_commands() if isinstance(command, Finish)]
    machine.close()
    return ends[0] if ends else None


async def survives(make_place: Places, scenario: Scenario) -> int:
    """A crash at each append, lost or unacknowledged, changes nothing. Returns how many points there are."""
    points = 0
    for commits in (False, True):
        number, died = 0, True
        while died:
            number += make_place.stride
            died = await _disturbed(make_place(), scenario, number, commits)
        points += number - 1
    return points


async def _disturbed(place: Place, scenario: Scenario, dies_at: int, commits: bool) -> bool:
    fresh()
    ledger = LEDGERS[-1]
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledger))
    await engine.__aenter__()
    store: Any = engine._store
    driving = asyncio.ensure_future(drives(engine, scenario))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    if not store.dead.is_set():
        await asyncio.wait(
            [asyncio.ensure_future(settled(engine)), dying], return_when=asyncio.FIRST_COMPLETED
        )
    died = bool(store.dead.is_set())
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    when = f"died at append {dies_at}, {'unacknowledged' if commits else 'lost'}"
    async with place.engine() as engine:
        outcome = await drives(engine, scenario)
        await check_end(engine, scenario, outcome, when)
    assert ledger.repeated == [], when
    return died
