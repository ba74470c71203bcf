"""Plants a bug, and looks for it by simulations."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.testing.simulation.drawing import drawn
from perdure.testing.simulation.simulating import simulate

#: Within so many seeds each bug has to be found.
SEEDS = 120


def found_in(seeds: range, theme: str | None) -> tuple[int, str] | None:
    """The first seed that fails, and how."""
    for seed in seeds:
        outcome = simulate(drawn(seed, None if theme is None else (theme,)), hasty=True)
        if outcome.violations:
            return seed, outcome.violations[0]
    return None


def check_found(
    patch: pytest.MonkeyPatch,
    owner: Any,
    attribute: str,
    bug: Any,
    theme: str | None = None,
    *,
    first: int = 0,
) -> None:
    """Plant a bug in the place of a function; fails if no seed finds it.

    Args:
        theme: what the scenarios use besides programs of steps, timers, children and messages; drawn if it isn't given.
        first: where to begin. One in a hundred seeds finds some bugs; whoever looks at thousands finds them anywhere.
    """
    patch.setattr(owner, attribute, bug)
    found = found_in(range(first, first + SEEDS), theme)
    assert found is not None, f"{SEEDS} seeds found nothing wrong with this: {bug.__doc__}"
    print(f"{attribute}: seed {found[0]}: {found[1]}")
