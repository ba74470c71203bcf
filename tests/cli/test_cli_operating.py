"""`perdure pause`, `resume`, `retry` and `fork`."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import flows
import pytest

import perdure


@pytest.fixture
def waiting(cli):
    cli.within(lambda engine: engine.start(flows.wait(timedelta(hours=1)), id="open"))
    return cli


def drive(cli, *calls):
    """Run them to their ends."""

    async def main():
        async with perdure.Engine(cli.url) as engine:
            for id, call in calls:
                handle = await engine.start(call, id=id)
                with_errors = await asyncio.gather(handle.result(), return_exceptions=True)
                assert with_errors

    asyncio.run(main())


def ends(cli, id):
    async def main():
        async with perdure.Engine(cli.url) as engine:
            return await engine.get(id).result()

    return asyncio.run(main())


def test_pause_and_resume(waiting):
    told = waiting("pause", "open", "--reason", "look")
    assert (told.code, told.out) == (0, "")
    assert "Run open is paused. Let it go on with: perdure resume open" in told.err
    run = waiting("show", "open", "--json").json
    assert (run["status"], run["reason"]) == ("paused", "look")
    assert "goes on" in waiting("resume", "open").err
    assert waiting("show", "open", "--json").json["status"] == "queued"
    waiting("terminate", "open")
    assert "can't be paused: it has ended" in waiting.fails("pause", "open")
    assert "Did you mean open?" in waiting.fails("resume", "opem")


def test_retry(cli):
    drive(cli, ("r", flows.stumbles()))
    flows.STUMBLES.clear()
    assert "as generation 2" in cli("retry", "r").err
    assert ends(cli, "r") == "1 and 2"
    shown = cli("show", "r").out
    assert re.search(r"generation\s+2", shown)
    assert "going on from run r, generation 1" in shown
    assert re.search(r"↤\s+flows.add#1.*\(taken over\)", shown)
    first = cli("show", "r", "--generation", "1", "--json").json
    assert (first["status"], first["generation"]) == ("failed", 1)
    assert "no generation 3" in cli.fails("show", "r", "--generation", "3")
    assert "it is completed, not failed" in cli.fails("retry", "r")
    flows.STUMBLES.add("now")


def test_fork(cli):
    drive(cli, ("r", flows.total([1, 2, 3])))
    plan = cli("fork", "r", "--at", "flows.add#2", "--dry-run")
    assert [line.split()[-1] for line in plan.out.splitlines()] == [
        "flows.add#1",
        "flows.add#2",
        "flows.add#3",
    ]
    assert [line.split()[0] for line in plan.out.splitlines()] == ["taken", "runs", "may"]
    forked = cli("fork", "r", "--edit", "flows.add#2=40", "--id", "f")
    assert forked.out == "f\n"
    assert ends(cli, "f") == 43
    other = cli("fork", "r").out.strip()
    assert other.startswith("r-fork-")
    assert ends(cli, other) == 6
    assert "isn't JSON" in cli.fails("fork", "r", "--edit", "flows.add#2=forty")
    assert "names no step" in cli.fails("fork", "r", "--edit", "forty")
    assert "there is no step 'nothing'" in cli.fails("fork", "r", "--at", "nothing")
    assert "a run has it already" in cli.fails("fork", "r", "--id", "r")
