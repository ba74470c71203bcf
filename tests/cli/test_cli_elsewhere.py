"""What the command line tells of steps that are executed in other queues."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import flows
import pytest

from perdure import Engine


@pytest.fixture
def sent(cli: Any) -> Any:
    """A run whose step was sent to a queue that nobody serves."""

    async def send() -> None:
        async with Engine(cli.url) as engine:
            await engine.start(flows.film("night"), id="r")
            while not [run async for run in engine.runs(status="blocked", errands=True)]:
                await asyncio.sleep(0.01)

    asyncio.run(send())
    return cli


async def works(url: str) -> None:
    async with Engine(url, queues=("default", "gpu")) as engine:
        assert await engine.get("r").result() == "NIGHT"


def test_a_step_that_was_sent_is_shown(sent: Any) -> None:
    shown = sent("show", "r").out
    assert re.search(
        r"waits for\s+step flows\.render#1.*attempt 1, sent to queue 'gpu', is blocked there", shown
    )
    assert re.search(
        r"flows\.render#1\s+attempt 1 sent to queue gpu, as run r/flows\.render#1@[0-9a-f]{8}", shown
    )
    asyncio.run(works(sent.url))
    shown = sent("show", "r").out
    assert "waits for" not in shown
    assert re.search(r"flows\.render#1\s.*NIGHT", shown)
    event = next(item for item in sent("show", "r", "--json").json["history"] if item["kind"] == "step_sent")
    assert (event["step"], event["queue"], event["attempt"]) == ("flows.render#1", "gpu", 1)
    assert "step/flows.render" in sent("show", event["run"]).out


def test_why_tells_what_worker_is_missing(sent: Any) -> None:
    told = sent("why", "r").out
    assert "no worker knows the step 'flows.render' in queue 'gpu'" in told
    assert "perdure worker flows --queues gpu" in told


def test_errands_are_listed_if_asked_for_or_blocked(sent: Any) -> None:
    assert [run["id"] for run in sent("ls", "--json").json] == ["r"]
    errand, run = (run["id"] for run in sent("ls", "--all", "--json").json)
    assert (run, errand.partition("@")[0]) == ("r", "r/flows.render#1")
    assert [run["id"] for run in sent("ls", "--blocked", "--json").json] == [errand]
    assert [run["id"] for run in sent("ls", "--status", "blocked", "--json").json] == [errand]


def test_workers_tell_of_the_steps_they_offer(cli: Any) -> None:
    async def look() -> tuple[Any, str]:
        async with Engine(cli.url, queues=("gpu",)):
            return (await asyncio.to_thread(cli, "workers", "--json")).json, (
                await asyncio.to_thread(cli, "workers")
            ).out

    (row,), table = asyncio.run(look())
    assert "flows.render" in row["offers"]
    assert not [name for name in row["workflows"] if name.startswith("step/")]
    assert re.search(r"gpu\s+step [a-z]", table)
