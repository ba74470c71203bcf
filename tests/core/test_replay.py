"""Any history of any shape of asyncio code replays, from any point, to the same run.

The corpus (helpers/shapes.py, and anyio's in helpers/anyio_shapes.py) is run live on a bare machine, replayed
from every prefix of its history, compared with what the same code does on asyncio's own loop, cancelled at
every point, and run in other processes, whose memory addresses and string hashes differ.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest

from helpers.anyio_shapes import ANYIO_SHAPES
from helpers.shapes import SHAPES, Shape, shape
from helpers.simulation import (
    START,
    Nudge,
    Recorded,
    Simulation,
    check_replay,
    do,
    plain_asyncio,
    replayed,
    see,
    simulate,
)
from perdure.core import events as ev
from perdure.core.commands import Ending
from perdure.core.handles import Handle

ALL: dict[str, Shape] = SHAPES | ANYIO_SHAPES
UNCAUGHT = {"fails_at_once", "failing_step_uncaught", "group_error_uncaught", "anyio_error_uncaught"}


@pytest.mark.parametrize("name", ALL)
def test_a_shape_replays_from_every_prefix_of_its_history(name: str) -> None:
    live = simulate(ALL[name])
    assert live.ending is (Ending.RAISED if name in UNCAUGHT else Ending.RETURNED), live.outcome
    check_replay(lambda: ALL[name], live)


@pytest.mark.parametrize("name", ALL)
def test_without_notes_a_history_has_the_same_outcomes(name: str) -> None:
    def fed(recorded: Recorded) -> list[ev.Event]:
        return [
            event for event in recorded.history if not isinstance(event, ev.StepStarted | ev.TimerStarted)
        ]

    noted, bare = simulate(ALL[name]), simulate(ALL[name], notes=False)
    assert fed(noted) == fed(bare) == bare.history
    assert (bare.sights, bare.outcome) == (noted.sights, noted.outcome)


#: What only durable code has: failures of steps and children, clocks, ids, names, random numbers.
NOT_PLAIN = {
    "all_tasks_in_order",
    "chance",
    "child_given_up",
    "child_started_and_left",
    "children",
    "failing_step",
    "generators_open_at_the_end",  # Python 3.11 and 3.12 cancel their closing, 3.13 does not
    "runs_an_event_loop",
    "sleeps",
    "task_names",
    "timer_callback_starts_tasks",
}


def _unordered(value: Any) -> Any:
    """Without the order of what asyncio itself takes from sets, where it is arbitrary."""
    if isinstance(value, list | tuple):
        return sorted((_unordered(item) for item in value), key=repr)
    return value


@pytest.mark.parametrize("name", sorted(ALL.keys() - NOT_PLAIN))
def test_a_shape_does_what_it_does_on_asyncio_itself(name: str) -> None:
    plain, durable = plain_asyncio(ALL[name]), simulate(ALL[name])
    assert durable.ending is plain.ending
    assert _unordered(durable.outcome) == _unordered(plain.outcome)
    assert _unordered(durable.sights) == _unordered(plain.sights)


# -- cancelled at every point ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ev.CancelRequested, ev.DeadlinePassed], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ALL)
def test_a_shape_cancelled_at_any_point_ends_and_replays(name: str, kind: Any) -> None:
    whole = simulate(ALL[name])
    moments = sorted({event.at - START + nudge for event in whole.history for nudge in (0.0, 0.25)})
    for at in moments[:: max(1, len(moments) // 8)]:
        nudges = [Nudge(at, kind)]
        live = simulate(ALL[name], nudges=nudges)
        assert live.ending is not None, f"cancelled at {at}: it doesn't end"
        check_replay(lambda: ALL[name], live, nudges=nudges, prefixes=len(live.history) < 25)


@pytest.mark.parametrize("name", ALL)
def test_a_run_cancelled_before_its_first_activation_gets_to_its_first_await(name: str) -> None:
    simulation = Simulation(ALL[name])
    simulation.machine.replaying = True
    simulation.begin()
    ended = simulation.machine.ended
    simulation.feed(ev.CancelRequested(at=START))
    simulation.machine.replaying = False
    live = simulation.go_on()
    assert live.ending is not None
    if name == "nothing":
        assert ended
    simulation.machine.close()


# -- garbage collection -------------------------------------------------------------------------------


@pytest.fixture
def little_to_collect() -> None:
    """Let collections, of which these tests make hundreds, pass over what tests before have left."""
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.parametrize("name", [name for name in SHAPES if "generator" in name])
def test_when_garbage_is_collected_makes_no_difference(name: str) -> None:
    live = simulate(ALL[name])
    for every in (1, 2, 3):
        simulation = Simulation(ALL[name])
        feed, count = simulation.feed, 0

        def collecting(event: ev.Event) -> None:
            nonlocal count
            count += 1
            feed(event)
            if count % every == 0:
                gc.collect()

        simulation.feed = collecting  # type: ignore[method-assign]
        simulation.begin()
        again = simulation.go_on()
        simulation.machine.close()
        assert again.history == live.history
        assert again.sights == live.sights


@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.parametrize("name", [name for name in SHAPES if "generator" in name])
def test_a_collection_in_the_middle_of_a_turn_makes_no_difference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 and later may begin one even while that is disabled."""
    live = simulate(SHAPES[name])

    def collecting(callback: Any, args: Any, context: Any) -> Handle:
        return Handle(lambda: (callback(*args), gc.collect()), (), context)

    monkeypatch.setattr("perdure.core.loop.Handle", collecting)
    again = simulate(SHAPES[name])
    assert again.sights == live.sights
    assert again.history == live.history


@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.parametrize("name", [name for name in SHAPES if "generator" in name])
def test_a_collection_of_what_is_new_makes_no_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that is older isn't itself collected then: it goes with the last thing that refers to it."""
    live = simulate(SHAPES[name])

    def collecting(callback: Any, args: Any, context: Any) -> Handle:
        return Handle(lambda: (gc.collect(), callback(*args), gc.collect(0)), (), context)

    monkeypatch.setattr("perdure.core.loop.Handle", collecting)
    again = simulate(SHAPES[name])
    assert again.sights == live.sights
    assert again.history == live.history


def test_a_generator_found_by_the_collector_is_closed_at_the_end() -> None:
    live = simulate(SHAPES["generator_in_a_cycle"])
    assert live.sights[-2:] == [("a", "closing"), ("a", "closed")]


# -- replay of another's history ------------------------------------------------------------------------


def test_the_shape_of_a_prefix_is_what_the_code_waits_for() -> None:
    async def waits() -> None:
        await do("a")
        see("between")
        await do("b", 50.0)

    live = simulate(waits)
    again = replayed(waits, live.history[:2])
    assert again.asked == ["do#2"]
    assert again.sights == ["between"]


def test_the_corpus_has_no_shape_twice() -> None:
    assert not SHAPES.keys() & ANYIO_SHAPES.keys()
    assert shape is not None
