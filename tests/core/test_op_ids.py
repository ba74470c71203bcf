"""What an operation is called follows from the code alone: not from hashes, addresses, or Python's version.

The golden file was recorded once and holds for every supported Python; a change there would break histories.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import record_corpus
from helpers.anyio_shapes import ANYIO_SHAPES
from helpers.shapes import SHAPES
from helpers.simulation import simulate
from perdure.core.scope import Scope, keyed_operation, operation_name

PROGRAM = Path(record_corpus.__file__)


def _elsewhere(seed: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_other_processes_record_the_same_histories() -> None:
    first, second = _elsewhere("1"), _elsewhere("4242")
    for name, entry in first.items():
        assert entry == second[name], name


@pytest.mark.parametrize("name", SHAPES | ANYIO_SHAPES)
def test_op_ids_are_those_of_the_golden_file(name: str) -> None:
    golden = json.loads(record_corpus.GOLDEN.read_text())
    assert simulate((SHAPES | ANYIO_SHAPES)[name]).asked == golden[name]


@pytest.mark.parametrize("name", SHAPES)
def test_op_ids_are_unique_within_a_run(name: str) -> None:
    asked = simulate(SHAPES[name]).asked
    assert len(asked) == len(set(asked))


def test_positions_count_by_name_and_by_task() -> None:
    root = Scope()
    assert [root.operation("a"), root.operation("b"), root.operation("a")] == ["a#1", "b#1", "a#2"]
    assert [root.numbered("timer"), root.numbered("timer")] == ["timer:1", "timer:2"]
    first, second = root.child(), root.child()
    assert (first.operation("a"), second.operation("a"), second.numbered("timer")) == (
        "1/a#1",
        "2/a#1",
        "2/timer:1",
    )
    assert first.child().child().operation("a") == "1.1.1/a#1"
    assert first.child().operation("a") == "1.2/a#1"


@pytest.mark.parametrize(
    "name", ["a", "app.fetch", "app.make.<locals>.fetch", "a:b", "1.2", "timer", "two words"]
)
def test_the_name_can_be_read_from_an_op_id(name: str) -> None:
    deep = Scope().child().child()
    assert operation_name(Scope().operation(name)) == name
    assert operation_name(deep.operation(name)) == name
    for key in ("k", "a/b", "x]", "#1", "1.2/a#1"):
        assert operation_name(keyed_operation(name, key)) == name


def test_a_timer_is_called_timer() -> None:
    assert operation_name(Scope().numbered("timer")) == "timer"
    assert operation_name(Scope().child().numbered("timer")) == "timer"
