"""A place where engines meet: a shared database in memory, or a file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from engine_kit import Place


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One database, of each kind in turn."""
    return Place(tmp_path / "runs.db" if request.param == "sqlite" else None)


@pytest.fixture(params=["memory", "sqlite"])
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes new databases, of each kind in turn."""
    numbers = count()
    return lambda: Place(tmp_path / f"{next(numbers)}.db" if request.param == "sqlite" else None)


@pytest.fixture
def memory() -> Place:
    """One database in memory, for what no store has a say in."""
    return Place(None)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """One database file."""
    return Place(tmp_path / "runs.db")
