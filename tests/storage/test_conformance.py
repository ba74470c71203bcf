"""Every store of ours keeps every promise of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.protocol import Store
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance import CHECKS, Check, run_check


def memory(_: Path) -> Callable[[], Store]:
    database = MemoryDatabase()
    return lambda: MemoryStore(database)


def sqlite(folder: Path) -> Callable[[], Store]:
    return lambda: SqliteStore(folder / "test.db")


@pytest.mark.parametrize("make", [memory, sqlite])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_store_conforms(check: Check, make: Callable[[Path], Callable[[], Store]], tmp_path: Path) -> None:
    run_check(check, make(tmp_path))
