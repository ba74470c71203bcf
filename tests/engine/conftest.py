"""A place where engines meet: a shared database in memory, a file, or a PostgreSQL server.

Not every test meets PostgreSQL each time, since most have nothing to do with the store. `--postgres=some` takes those
files whose tests lean on it most, `all` takes all, `none` none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from engine_kit import Place

from helpers.postgres import lent_database

KINDS = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=KINDS)
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Makes new databases, of each kind in turn."""
    numbers = count()
    with ExitStack() as lent:
        if request.param == "memory":
            yield Place
        elif request.param == "sqlite":
            yield lambda: Place(tmp_path / f"{next(numbers)}.db")
        else:
            yield lambda: Place(url=lent.enter_context(lent_database()))


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """One database, of each kind in turn."""
    return make_place()


@pytest.fixture
def memory() -> Place:
    """One database in memory, for what no store has a say in."""
    return Place(None)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """One database file."""
    return Place(tmp_path / "runs.db")
