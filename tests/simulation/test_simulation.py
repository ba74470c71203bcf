"""The real engine in virtual time, among drawn faults: nothing that must never be ever is, and everything finishes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.testing.simulation.drawing import drawn
from perdure.testing.simulation.scenario import load
from perdure.testing.simulation.simulating import simulate
from perdure.testing.simulation.world import ProcessLoop

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
SEEDS = 60
GROUPS = 8


@pytest.mark.parametrize("group", range(GROUPS))
def test_seeds_hold(group: int) -> None:
    failed = {}
    for seed in range(group, SEEDS, GROUPS):
        outcome = simulate(drawn(seed))
        if outcome.violations:
            failed[seed] = outcome.violations
    assert failed == {}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_once_failed_holds(path: Path) -> None:
    assert simulate(load(path)).violations == []


def test_a_seed_does_the_same_again() -> None:
    for seed in (1, 9, 11):
        assert simulate(drawn(seed)).log == simulate(drawn(seed)).log


def test_a_simulation_leaves_nothing_behind() -> None:
    """What its killed processes held goes with it: of thousands, none is in the memory of the next."""
    simulate(drawn(1))
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is ProcessLoop]


def test_a_seed_does_the_same_in_another_process() -> None:
    """With other hashes of texts, and at other addresses."""
    ours = "\n".join("\n".join(simulate(drawn(seed)).log) for seed in (2, 11))
    script = (
        "from perdure.testing.simulation.drawing import drawn\n"
        "from perdure.testing.simulation.simulating import simulate\n"
        "for seed in (2, 11): print('\\n'.join(simulate(drawn(seed)).log))\n"
    )
    for hashes in ("1", "4242"):
        theirs = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        )
        assert theirs.stdout.strip() == ours
