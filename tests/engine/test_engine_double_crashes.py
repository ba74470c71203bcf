"""A crash at any append of a run, and another one at any append of the recovery from it.

Each shape of test_engine_crashes.py dies at its i-th append; the engine that takes over dies at its j-th; a third one
finishes. It ends as if nothing had happened, and no body begins again whose outcome any of them had recorded. With
PERDURE_SOAK=1 that is all pairs of i and j, before and after the commit each; else pairs drawn by a seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, product
from typing import Any, NamedTuple

import pytest
from engine_kit import Ledger, Place, run
from test_engine_crashes import LEDGERS, SHAPES, drives, life, steps_of, undisturbed

SOAK = os.environ.get("PERDURE_SOAK") == "1"


class Death(NamedTuple):
    at: int
    commits: bool


async def twice_disturbed(
    place: Place, shape: Any, first: Death, second: Death
) -> tuple[Any, Any, bool, bool]:
    """Die twice and finish: how it ended, and which deaths took place."""
    ledger = Ledger()
    LEDGERS.append(ledger)
    died = await life(place, shape, ledger, *first)
    again = await life(place, shape, ledger, *second)
    async with place.engine() as engine:
        ended = await drives(engine, shape)
        steps = await steps_of(engine)
    assert ledger.repeated == []
    return ended, steps, died, again


def pairs_of_all(commits: tuple[bool, bool]) -> Iterator[tuple[Death, Iterator[Death]]]:
    for first in count(1):
        yield Death(first, commits[0]), (Death(second, commits[1]) for second in count(1))


def pairs_by_chance(seed: str) -> Iterator[tuple[Death, Iterator[Death]]]:
    chance = random.Random(seed)
    for first in count(1):
        second = Death(chance.choice((1, 1, 2, 2, 3, 4)), chance.random() < 0.5)
        yield Death(first, chance.random() < 0.5), iter([second])


def tries(make_place: Callable[[], Place], shape: Any, pairs: Any) -> int:
    """Try pairs until a first engine outlives its run. Returns how often both deaths took place."""
    expected = run(lambda: undisturbed(make_place(), shape))
    twice = 0
    for first, seconds in pairs:
        for second in seconds:
            *found, died, again = run(partial(twice_disturbed, make_place(), shape, first, second))
            assert tuple(found) == expected, f"died at {first} and {second}"
            twice += died and again
            if not again:
                break
        if not died:
            return twice
    raise AssertionError("no first engine has outlived its run")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.rpartition(".")[2])
def test_a_second_crash_in_the_recovery_changes_nothing(
    shape: Any, make_place: Callable[[], Place], record_property: Callable[[str, object], None]
) -> None:
    plans = [pairs_by_chance(shape.name)]
    if SOAK:
        plans = [pairs_of_all(both) for both in product((False, True), repeat=2)]
    twice = sum(tries(make_place, shape, pairs) for pairs in plans)
    assert twice > 0
    record_property("figure", f"{twice} double deaths")
