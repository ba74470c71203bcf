"""`perdure queues`, and what `perdure why` tells of a run that stands in line."""

from __future__ import annotations

import asyncio
import re

import pytest

import perdure
from perdure import Rate
from perdure.core.queues import QueueSettings

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")


@perdure.workflow
async def waits() -> None:
    await perdure.receive("go")


@perdure.workflow
async def has_child() -> None:
    await waits()


def fill(cli, settings: QueueSettings, *starts, begins: int) -> None:
    """Start runs in the queue "q", and let a worker begin as many as can."""

    async def act() -> None:
        async with perdure.Engine(cli.url, worker=False) as client:
            await client._store.queues.define("q", settings, now=0.0)
            for id, call, key in starts:
                await client.start(call, id=id, queue="q", key=key)
            async with perdure.Engine(cli.url, queues=["q"], name="w1"), asyncio.timeout(60):
                while len([run.id async for run in client.runs(status="waiting")]) < begins:
                    await asyncio.sleep(0.02)

    asyncio.run(act())


def serve(cli, look):
    """Look while a worker serves the queue that is too full for more."""

    async def act():
        async with perdure.Engine(cli.url, queues=["q"], name="w1"):
            return await asyncio.to_thread(look)

    return asyncio.run(act())


def test_queues_are_listed(cli):
    cli.within(lambda engine: engine.queues.list())
    assert "There is no queue" in cli("queues").err
    rate = Rate(100, per=60)
    settings = QueueSettings(concurrency=2, per_key=1, rate=rate, priority=True, fairness="key")
    fill(cli, settings, ("a", waits(), "k"), ("b", waits(), "k"), begins=1)
    assert re.search(r"queue +q, key k\b", cli("show", "b").out)
    (listed,) = cli("queues", "--json").json
    assert (listed["name"], listed["queued"], listed["running"], listed["paused"]) == ("q", 1, 1, False)
    assert (listed["concurrency"], listed["rate"]["limit"]) == (2, 100)
    assert re.search(
        r"q +1 +0 +1 +.* ago +concurrency 2, rate 100 per 1 min, per key 1, priorities, fair by key",
        cli("queues").out,
    )


def test_queues_are_steered(cli):
    fill(cli, QueueSettings(concurrency=1), ("a", waits(), None), ("b", waits(), None), begins=1)
    assert "is paused" in cli("queues", "pause", "q").err
    assert re.search(r"q .* paused", cli("queues").out)
    assert "its queue 'q' is paused" in serve(cli, lambda: cli("why", "b")).out
    assert "goes on" in cli("queues", "resume", "q").err
    assert "nothing begins there" in cli("queues", "drain", "q").err
    assert "is drained: nothing begins there" in serve(cli, lambda: cli("why", "b")).out
    cli("terminate", "a")
    assert "no run is left that has begun" in cli("queues", "drain", "q", "--wait").err
    cli("queues", "resume", "q")
    told = cli("queues", "set", "q", "--concurrency", "20", "--rate", "100/1m", "--per-key", "3").err
    assert "has concurrency 20, rate 100 per 1 min, per key 3 from now on" in told
    assert "(set by hand)" in cli("queues").out
    assert "has concurrency 20, per key 3" in cli("queues", "set", "q", "--rate", "none").err
    assert "has concurrency 1, as its code says" in cli("queues", "reset", "q").err


def test_mistakes_are_told(cli):
    fill(cli, QueueSettings(concurrency=1), ("a", waits(), None), begins=1)
    assert "There is no queue 'Q'" in cli.fails("queues", "pause", "Q")
    assert "Say which limit" in cli.fails("queues", "set", "q")
    assert "is no number" in cli.fails("queues", "set", "q", "--concurrency", "many")
    assert "at least 1" in cli.fails("queues", "set", "q", "--concurrency", "0")
    assert "is no rate" in cli.fails("queues", "set", "q", "--rate", "fast")
    assert "is no rate" in cli.fails("queues", "set", "q", "--rate", "0/1m")


def test_a_run_in_line_is_explained(cli):
    starts = [
        (id, waits(), key) for id, key in (("a", "k"), ("b", None), ("c", "k"), ("d", None), ("e", None))
    ]
    fill(cli, QueueSettings(concurrency=2, per_key=1), *starts, begins=2)
    told = serve(cli, lambda: cli("why", "c").out)
    assert "waits in its queue 'q': its key 'k' has 1 of 1 slots, held by a" in told
    told = serve(cli, lambda: cli("why", "e").out)
    assert re.search(
        r"waits in its queue 'q' behind 1 other: its limit of 2 is reached, held by (a, b|b, a)", told
    )
    assert "no worker has the workflow" in cli("why", "e").out


def test_a_child_behind_its_parent_is_explained(cli):
    fill(cli, QueueSettings(concurrency=1), ("parent", has_child(), None), begins=1)
    told = serve(cli, lambda: cli("why", "parent").out)
    assert "its limit of 1 is reached, held by parent. Its own parent holds one" in told
    assert "perdure queues set q --concurrency 2" in told


def test_a_rate_is_explained(cli):
    rate = Rate(1, per=3600)
    fill(cli, QueueSettings(rate=rate), ("a", waits(), None), ("b", waits(), None), begins=1)
    told = serve(cli, lambda: cli("why", "b").out)
    assert re.search(
        r"its rate of 1 per 3600 s lets the next one begin then, .*until .*\(in (1 h|59 min|1 h 2 min)", told
    )
