"""Every store of ours keeps every promise of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.postgres import lent_database
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance import CHECKS, Check, run_check


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens stores on one database, of each kind in turn."""
    if request.param == "memory":
        database = MemoryDatabase()
        yield lambda: MemoryStore(database)
    elif request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "test.db")
    else:
        with lent_database() as url:
            yield lambda: PostgresStore(url)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_store_conforms(check: Check, make: Callable[[], Store]) -> None:
    run_check(check, make)


def test_each_check_has_a_name_of_its_own() -> None:
    """Deliberate bugs name the checks that catch them."""
    names = [check.__name__ for check in CHECKS]
    assert len(names) == len(set(names))
