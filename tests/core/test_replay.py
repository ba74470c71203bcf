"""Any history of any shape of asyncio code replays, from any point, to the same run."""

from __future__ import annotations

import pytest

from helpers.shapes import SHAPES, Shape
from helpers.simulation import check_replay, plain_asyncio, simulate
from perdure.core.commands import Ending

UNCAUGHT = {"fails_at_once", "failing_step_uncaught", "group_error_uncaught"}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_shape_replays_from_every_prefix_of_its_history(shape: Shape) -> None:
    live = simulate(shape)
    assert live.ending is (Ending.RAISED if shape.__name__ in UNCAUGHT else Ending.RETURNED), live.outcome
    check_replay(lambda: shape, live)


#: What only durable code has: failures of steps and children, ids, random numbers.
NOT_PLAIN = {"failing_step", "child_given_up", "children", "child_started_and_left", "chance", "runs_an_event_loop"}


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - NOT_PLAIN))
def test_a_shape_does_what_it_does_on_asyncio_itself(name: str) -> None:
    plain, durable = plain_asyncio(SHAPES[name]), simulate(SHAPES[name])
    assert (durable.ending, durable.outcome) == (plain.ending, plain.outcome)
    assert durable.sights == plain.sights
