"""Where a process may die: just before or just after each of its commits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple


class Boundary(NamedTuple):
    """Where a process dies."""

    die_at: int  #: number of the commit, counted from 1
    before: bool

    def __str__(self) -> str:
        return f"{'before' if self.before else 'after'} commit {self.die_at}"


def every_boundary() -> Iterator[Boundary]:
    """Before the first commit, after it, before the second one, ..."""
    return (Boundary(number // 2 + 1, number % 2 == 0) for number in count())


def some_boundaries(commits: int, number: int) -> Iterator[Boundary]:
    """Before each commit, or before so many of them, evenly spread; and after every third of these.

    What is on disk after a commit is what is on disk before the next one.
    """
    chosen: Sequence[int] = range(1, commits + 1)
    if commits > number:
        chosen = [1 + place * (commits - 1) // (number - 1) for place in range(number)]
    for place, commit in enumerate(chosen):
        yield Boundary(commit, before=True)
        if place % 3 == 0:
            yield Boundary(commit, before=False)


def some_pairs(commits: int, number: int, seed: str) -> Iterator[tuple[Boundary, Boundary]]:
    """So many pairs of deaths, the second one in the process that goes on; both are likely to take place."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    for _ in range(number):
        first = chance.randint(1, max(1, commits - 1))
        second = chance.randint(1, max(1, commits - first))
        yield Boundary(first, chance.random() < 0.5), Boundary(second, chance.random() < 0.5)
