"""One database that several engines can open at once, in memory and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.engines import Database


@pytest.fixture(params=["memory", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return Database(tmp_path / "runs.db" if request.param == "sqlite" else None)


@pytest.fixture
def memory() -> Database:
    return Database(None)
