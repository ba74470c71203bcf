"""Databases of every released version: today's code opens them, brings them up to date, and goes on with their runs.

`record_release.py` has kept them as SQL, with a worker dead in the middle of everything.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import record_release
import released_work
from migration_kit import EXPAND, FILL, TODAY, Ground

from helpers.postgres import Server
from perdure import Engine, Retention
from perdure.runtime.checking import Check
from perdure.storage.urls import auditor_for, schema_at

RELEASES = sorted(path.name for path in record_release.RELEASED.iterdir() if path.is_dir())

#: Tables that are empty unless something is under way that lasts for a moment, or that needs a set-up of its own.
MAY_BE_EMPTY: set[str] = {
    "arrivals", "budget_waits", "commits", "data_keys", "inquiries", "moves", "remainders", "remaining_streams",
    "sweeper",
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def dump_of(release: str, kind: str) -> str:
    return (record_release.RELEASED / release / f"{kind}.sql").read_text()


def restored(release: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The url of a database as the release has left it."""
    dump = dump_of(release, kind)
    if kind == "sqlite":
        record_release.load_sqlite(dump, tmp_path / "released.db")
        return f"sqlite:///{tmp_path / 'released.db'}"
    server: Server = request.getfixturevalue("server")
    url = server.url(server.new_database())
    with psycopg.connect(url) as connection:
        connection.execute(dump.encode())
    return url


def faults(url: str) -> list[Any]:
    auditor = auditor_for(url)
    try:
        return list(Check(auditor).everything(files=False))
    finally:
        auditor.close()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    released_work.BODIES.clear()
    monkeypatch.setattr(released_work, "MENDED", True)


def check(found: dict[str, Any]) -> None:
    assert "outcome unknown" in found["careful"]
    for name, value in released_work.EXPECTED.items():
        assert found[name] == value, name
    again = [body for body in released_work.RECORDED if released_work.BODIES[body]]
    assert not again, "what the release had recorded was executed again"


@pytest.mark.parametrize("release", RELEASES)
def test_todays_code_goes_on_with_what_a_release_has_left(
    release: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = restored(release, kind, tmp_path, request)
    assert schema_at(url).version >= 1

    async def goes_on() -> dict[str, Any]:
        async with Engine(url, **released_work.options(all_queues=True)) as engine:
            return await released_work.go_on(engine)

    check(asyncio.run(goes_on()))
    assert schema_at(url).due == []
    assert not faults(url)


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_releases_runs_have_spent_stays_when_they_are_removed(
    release: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = restored(release, kind, tmp_path, request)

    async def removed() -> None:
        async with Engine(url, **released_work.options(all_queues=True)) as engine:
            await released_work.go_on(engine)
            before = await engine.usage("step")
            assert {line.name for line in before} == {"released.paid", "released.long"}
            await engine.prune([Retention(0)])
            left = {run.id async for run in engine.runs() if run.status.final}
            assert left == {"lasting"}  # for whose lost call money is held
            assert await engine.usage("step") == before

    asyncio.run(removed())
    assert not faults(url)


@pytest.mark.parametrize("release", RELEASES)
def test_the_next_schema_comes_while_both_versions_work(
    release: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A rehearsal with migrations that are made up: a new column at once, and one that is filled in steps."""
    ground = Ground(restored(release, kind, tmp_path, request), tmp_path)
    ground.add(EXPAND)
    newest = ground.add(FILL, in_steps=True)

    async def side_by_side() -> dict[str, Any]:
        options = released_work.options(all_queues=True)
        async with ground.engine(TODAY, name="old", **options):
            assert ground.version() == TODAY
            async with ground.engine(name="new", **options) as new:
                assert ground.version() == newest
                return await released_work.go_on(new)

    check(asyncio.run(side_by_side()))
    assert ground.query("SELECT count(*) FROM runs WHERE colour = 'blue'")[0][0] > 20
    asyncio.run(ground.open_and_close(TODAY))  # one step back: code of before opens it


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_has_left_something_in_every_table(release: str, kind: str) -> None:
    dump = dump_of(release, kind)
    tables = set(re.findall(r"CREATE TABLE (?:perdure\.)?(\w+)", dump))
    assert len(tables) > 30
    filled = set(re.findall(r"INSERT INTO (?:perdure\.)?(\w+)", dump))
    assert tables - filled <= MAY_BE_EMPTY


@pytest.mark.parametrize("release", RELEASES)
def test_released_migrations_stay_as_they_were(release: str, kind: str) -> None:
    """Every database in the world has executed them as they were."""
    kept = json.loads((record_release.RELEASED / release / "migrations.json").read_text())[kind]
    today = record_release.digests(kind)
    assert {name: today.get(name) for name in kept} == kept, (
        "a migration that was released is edited: write the change as a new file. (If the release isn't out yet, "
        f"record it anew: rm -r tests/storage/released/{release} && python tests/storage/record_release.py {release})"
    )


def test_the_work_of_a_release_is_what_todays_code_leaves(tmp_path: Path) -> None:
    """What is recorded for the next release works, before it is recorded."""
    url = f"sqlite:///{tmp_path / 'today.db'}"
    record_release.work(url)
    dump = record_release.dump_sqlite(tmp_path / "today.db")
    record_release.load_sqlite(dump, tmp_path / "copy.db")
    assert record_release.dump_sqlite(tmp_path / "copy.db") == dump
    assert not faults(f"sqlite:///{tmp_path / 'copy.db'}")
    tables = set(re.findall(r"CREATE TABLE (\w+)", dump))
    filled = set(re.findall(r"INSERT INTO (\w+)", dump))
    assert tables - filled <= MAY_BE_EMPTY, "a new table wants something that fills it, in released_work.py"

    async def goes_on() -> dict[str, Any]:
        async with Engine(
            f"sqlite:///{tmp_path / 'copy.db'}", **released_work.options(all_queues=True)
        ) as engine:
            return await released_work.go_on(engine)

    check(asyncio.run(goes_on()))
