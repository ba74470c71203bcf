"""A fresh world for each acceptance test; none of its processes outlives the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import World


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells what was counted or measured: in the test's output, and in the summary of all tests."""

    def tell(text: str) -> None:
        print(text)
        record_property("figure", text)

    return tell


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()
