"""`perdure migrate`: looks, keeps a copy, and migrates; what it can't do it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from migration_kit import EXPAND, FILL, TODAY, Ground
from typer.testing import CliRunner

import perdure.storage.postgres.schema as postgres_schema
import perdure.storage.sqlite.schema as sqlite_schema
from helpers.postgres import Server
from perdure.cli.app import app
from perdure.storage.postgres import PostgresStore
from perdure.storage.sqlite import SqliteStore


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "sqlite":
        return Ground(f"sqlite:///{tmp_path / 'test.db'}", tmp_path)
    made: Server = request.getfixturevalue("server")
    return Ground(made.url(made.new_database()), tmp_path)


def knows(monkeypatch: pytest.MonkeyPatch, ground: Ground, number: int | None = None) -> None:
    """From now on the code of this process knows so many of the ground's migrations; all of them."""
    known = ground.migrations(number)
    for store in (SqliteStore, PostgresStore):
        monkeypatch.setitem(store.__init__.__kwdefaults__, "migrations", known)
    for schema in (sqlite_schema, postgres_schema):
        monkeypatch.setattr(schema, "MIGRATIONS", known)


def perdure(ground: Ground, *command: str) -> Any:
    result = CliRunner().invoke(app, [*command, "--url", ground.url])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_one_looks_keeps_a_copy_and_migrates(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asyncio.run(ground.open_and_close(TODAY))
    ground.add(EXPAND)
    new = ground.add(FILL, in_steps=True)
    knows(monkeypatch, ground)
    looked = perdure(ground, "migrate", "--check", "--json")
    assert looked.exit_code == 1
    assert json.loads(looked.stdout)["due"] == [f"{TODAY + 1:04d}_made_up", f"{TODAY + 2:04d}_made_up"]
    told = perdure(ground, "migrate", "--check").stderr
    assert f"schema version {TODAY}" in told
    assert f"(in one transaction; code that knows {TODAY} or more goes on)" in told
    assert "(in steps, while others work;" in told
    assert ground.version() == TODAY, "looking changes nothing"
    copy = tmp_path / "before.db"
    done = perdure(ground, "migrate", "--backup", str(copy))
    if ground.kind == "postgres":
        assert done.exit_code == 2
        assert "Back up PostgreSQL with its own means first" in done.stderr
        assert ground.version() == TODAY
        done = perdure(ground, "migrate")
    assert done.exit_code == 0, done.stderr
    assert "There is nothing to do" in done.stderr
    assert ground.version() == new
    assert "colour" in ground.columns()
    assert perdure(ground, "migrate", "--check").exit_code == 0
    assert "There is nothing to do" in perdure(ground, "migrate").stderr
    if ground.kind == "sqlite":
        before = Ground(f"sqlite:///{copy}", tmp_path / "other")
        assert before.version() == TODAY, "the copy is of before"
        assert perdure(ground, "migrate", "--backup", str(copy)).exit_code == 0, (
            "there is nothing to copy for"
        )


def test_code_of_before_is_told_what_it_can_and_cant(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.add(EXPAND)
    asyncio.run(ground.open_and_close())
    knows(monkeypatch, ground, TODAY)
    told = perdure(ground, "migrate", "--check")
    assert told.exit_code == 0
    assert f"schema version {TODAY + 1}, which this one can use" in told.stderr
    ground.add("SELECT 2;", oldest=TODAY + 1)
    asyncio.run(ground.open_and_close())
    for command in (("migrate", "--check"), ("migrate",), ("ls",)):
        refused = perdure(ground, *command)
        assert refused.exit_code == 2
        assert f"knows only up to {TODAY}" in refused.stderr
        assert "Upgrade Perdure here" in refused.stderr


def test_live_workers_that_couldnt_go_on_are_named(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.add(EXPAND)
    ground.add("SELECT 2;", oldest=TODAY + 1)

    async def main() -> None:
        async with ground.engine(TODAY, name="old-one"):
            knows(monkeypatch, ground)
            looked = await asyncio.to_thread(perdure, ground, "migrate", "--check")
            assert looked.exit_code == 1
            assert "old-one is up" in looked.stderr
            refused = await asyncio.to_thread(perdure, ground, "migrate")
            assert refused.exit_code == 2
            assert "Stop the old workers first" in refused.stderr
            assert ground.version() == TODAY

    asyncio.run(main())
    assert perdure(ground, "migrate").exit_code == 0
    assert ground.version() == TODAY + 2


def test_a_new_database_is_made(ground: Ground) -> None:
    """As before many workers are started at once."""
    made = perdure(ground, "migrate")
    assert made.exit_code == 0, made.stderr
    assert ground.version() == TODAY
