"""`perdure torture`, as users run it: it passes, its blows hit, and it minds what isn't its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import program
import pytest
from world import PERDURE, SOAK, World, seeded

pytestmark = pytest.mark.acceptance

SECONDS = "120" if SOAK else "5"


def count(report: str, what: str) -> int:
    found = re.search(rf"([\d,]+) {what}", report)
    assert found, (what, report)
    return int(found[1].replace(",", ""))


def test_a_database_that_is_tortured_holds(either: World, figure: Callable[[str], None]) -> None:
    seed = str(seeded().randrange(1_000_000))
    folder = str(either.folder / "torture")
    options = [] if either.server is None else ["--pgdata", str(either.server.folder / "data")]
    process = either.perdure("torture", "--seconds", SECONDS, "--seed", seed, "--folder", folder, *options)
    report, _ = process.popen.communicate(timeout=900)
    told = report.decode()
    figure(" / ".join(told.splitlines()[1:]))
    assert process.popen.returncode == 0, told
    assert "PASSED: nothing acknowledged was lost" in told
    assert count(told, "workers killed") > 0
    assert count(told, "ended with the right result") > 10
    assert not SOAK or count(told, "take-overs") > 0
    if either.server is None:
        assert count(told, "losses of power tried") >= 200
    else:
        assert count(told, "connections to the server cut") >= 0
        assert count(told, "crashes of the server") >= SOAK
    assert count(told, "were set aside with the reason") == 3
    assert count(told, "healthy programs beside them ended right") > 0


def test_a_server_is_made_for_the_torture(world: World) -> None:
    process = world.start(*PERDURE, "torture", "--own-postgres", "--seconds", "3", "--seed", "1")
    report, _ = process.popen.communicate(timeout=900)
    told = report.decode()
    assert process.popen.returncode == 0 or "NOTHING SHOWN" in told, told
    assert "crashes of the server, each followed by a start" in told
    assert "127.0.0.1" in told


def test_a_database_with_runs_is_left_alone(world: World) -> None:
    async def scenario() -> None:
        async with world.client() as client:
            await client.start(program.echo("mine"), id="mine")

    asyncio.run(scenario())
    process = world.perdure("torture", "--seconds", "1")
    assert process.output().startswith("Seed ")
    assert process.popen.returncode == 2
    assert "holds runs, such as 'mine'" in process.log.read_text()
