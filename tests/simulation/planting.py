"""Plants a bug, and looks for it by simulations.

The seeds that found the bugs when they were last recorded are tried first, as a search takes seconds: `found.json` has
them. A change of the engine changes what a seed does, so each of them may stop finding its bug at any time: then all
are searched, as they always are with PERDURE_SOAK=1. Record them anew when the search has become long:

PERDURE_RECORD_SEEDS=1 .venv/bin/pytest tests/simulation -k planted
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from perdure.testing.simulation.drawing import drawn
from perdure.testing.simulation.simulating import simulate

#: Within so many seeds each bug has to be found.
SEEDS = 120

RECORDING = os.environ.get("PERDURE_RECORD_SEEDS") == "1"
SOAK = os.environ.get("PERDURE_SOAK") == "1"
RECORD = Path(__file__).parent / "found.json"
RECORDED: dict[str, int] = json.loads(RECORD.read_text())


def found_in(seeds: Iterable[int], theme: str | None) -> tuple[int, str] | None:
    """The first seed that fails, and how."""
    for seed in seeds:
        outcome = simulate(drawn(seed, None if theme is None else (theme,)), hasty=True)
        if outcome.violations:
            return seed, outcome.violations[0]
    return None


def check_found(
    patch: pytest.MonkeyPatch,
    name: str,
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
    seeds = range(first, first + SEEDS)
    tried = [seed for seed in (RECORDED.get(name),) if seed in seeds and not SOAK]
    found = found_in((*tried, *(seed for seed in seeds if seed not in tried)), theme)
    assert found is not None, f"{SEEDS} seeds found nothing wrong with this: {bug.__doc__}"
    print(f"{attribute}: seed {found[0]}: {found[1]}")
    if RECORDING:
        recorded = {**json.loads(RECORD.read_text()), name: found[0]}
        written = RECORD.with_suffix(".new")
        written.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        written.replace(RECORD)
