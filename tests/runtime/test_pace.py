"""A large fleet looks as often as a small one, each of its workers more rarely."""

from __future__ import annotations

import random

import pytest

from perdure.runtime.pace import SMALL, Pace
from perdure.storage.chance import chance

TICK = 0.25


def looks(
    workers: int, *, every: int = 1, together: float = 100.0, ticks: int = 400, seed: int = 1
) -> list[int]:
    """The ticks at which one of so many workers looks."""
    pace = Pace(TICK, every, together)
    pace.workers = workers
    with chance.seeded(random.Random(seed)):
        return [tick for tick in range(1, ticks + 1) if pace.due()]


@pytest.mark.parametrize("every", [1, 4])
def test_small_fleets_look_at_even_ticks(every: int) -> None:
    assert looks(SMALL, every=every) == list(range(every, 401, every))


@pytest.mark.parametrize("workers", [1_000, 10_000])
def test_large_fleets_keep_to_their_rate(workers: int) -> None:
    seconds = 1_000
    sample = [looks(workers, ticks=int(seconds / TICK), seed=seed) for seed in range(50)]
    rate = sum(map(len, sample)) / 50 * workers / seconds
    assert 60 < rate < 140


def test_workers_of_a_large_fleet_look_at_different_moments() -> None:
    assert len({tuple(looks(1_000, seed=seed)) for seed in range(10)}) == 10


def test_nobody_looks_more_often_because_there_are_others() -> None:
    assert len(looks(SMALL + 1, every=4)) <= 400 / 4 * 1.2
