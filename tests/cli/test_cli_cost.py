"""`perdure cost`, and what `perdure show` tells of money."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import perdure


@perdure.step(spends=perdure.Spend(cost="0.02"))
async def analyses(document: str) -> str:
    if document == "lost":
        raise ConnectionResetError(document)
    perdure.record_usage(
        model="m-1", input_tokens=12_000, output_tokens=300, cached_tokens=8_000, cost="0.0105"
    )
    return document


@perdure.step
async def writes() -> str:
    perdure.record_usage(model="m-2", input_tokens=800, output_tokens=200, reasoning_tokens=50)
    return "written"


@perdure.workflow
async def research(*documents: str) -> str:
    await asyncio.gather(*(analyses(document) for document in documents))
    return await writes()


def drive(cli, action):
    """Do something with an engine that drives runs."""

    async def act() -> None:
        async with perdure.Engine(cli.url) as engine, asyncio.timeout(60):
            await action(engine)

    asyncio.run(act())


def test_what_was_spent_is_told(cli):
    cli.within(lambda engine: engine.usage())
    assert "No call of a model is in the ledger" in cli("cost").err
    drive(cli, lambda engine: engine.run(research("a", "b"), id="r-1", key="acme"))
    told = cli("cost", "r-1").out
    assert re.search(r"analyses +2 +24,000 +600 +16,000 +0 +0\.021\b", told), told
    assert re.search(r"writes +1 +800 +200 +0 +50 +\?", told), told
    assert re.search(r"total +3 .* 0\.021 \+ \?", told), told
    assert "no price is known of 1 call" in told
    assert re.search(r"m-1 +2 ", cli("cost", "--by", "model").out)
    assert re.search(r"acme +3 ", cli("cost", "--by", "key").out)
    assert re.search(r"research +3 ", cli("cost").out)
    assert re.search(r"r-1 +3 ", cli("cost", "--by", "run").out)
    assert re.search(r"\d{4}-\d\d-\d\d +3 ", cli("cost", "--by", "day", "--since", "1h").out)
    assert "No call" in cli("cost", "--key", "other").err
    assert "spent" in cli("show", "r-1").out
    assert "0.021 USD, 3 calls, 25,600 tokens" in cli("show", "r-1").out


def test_what_removed_runs_have_spent_is_told_too(cli):
    drive(cli, lambda engine: engine.run(research("a", "b"), id="r-1", key="acme"))
    drive(cli, lambda engine: engine.run(research("c"), id="r-2", key="acme"))
    assert "not in it" not in cli("cost", "--key", "acme").out
    before = cli("cost").out
    drive(cli, lambda engine: engine.prune([perdure.Retention(0, workflow="*.research")]))
    assert cli("cost").out == before
    drive(cli, lambda engine: engine.run(research("d"), id="r-3", key="acme"))
    for by in ("key", "run"):
        told = cli("cost", "--by", by).out
        assert re.search(r"\(removed runs\) +5 ", told), told
        assert re.search(r"total +7 ", told), told
    assert re.search(r"\d{4}-\d\d +7 ", cli("cost", "--by", "month").out)
    told = cli("cost", "--key", "acme").out
    assert re.search(r"research +2 ", told), told
    assert "runs that were removed aren't in it: nobody knows any more what each key had spent" in told
    assert "aren't in it" in cli("cost", "--key", "nobody").out
    assert cli("cost", "--key", "acme", "--json").json["left_out"]
    assert [line["removed"] for line in cli("cost", "--by", "run", "--json").json["lines"]] == [False, True]
    assert "No call" in cli("cost", "--until", "2d").err


def test_it_is_told_to_programs(cli):
    drive(cli, lambda engine: engine.run(research("a"), id="r-1"))
    told = cli("cost", "r-1", "--by", "model", "--json").json
    assert told["by"] == "model"
    assert (told["total"]["calls"], told["total"]["cost"], told["total"]["unpriced_calls"]) == (
        2,
        "0.0105",
        1,
    )
    assert [(line["name"], line["input_tokens"]) for line in told["lines"]] == [("m-1", 12_000), ("m-2", 800)]
    assert cli("show", "r-1", "--json").json["usage"]["calls"] == 2


def test_unknown_spend_is_not_hidden(cli):
    async def use(engine: perdure.Engine) -> None:
        handle = await engine.start(lost(), id="r-1")
        with suppress(perdure.RunFailed):
            await handle.result()

    drive(cli, use)
    told = cli("cost", "r-1").out
    assert "unknown: 1 call begun, and nobody knows whether billed, at most 0.02 USD" in told


@perdure.workflow
async def lost() -> None:
    await analyses.with_options(retry=perdure.Retry(max_attempts=1))("lost")


def test_what_forks_save_is_told(cli):
    async def use(engine: perdure.Engine) -> None:
        handle = await engine.start(research("a"), id="r-1")
        await handle.result()
        await (await handle.fork(id="f-1")).result()

    drive(cli, use)
    told = cli("cost", "f-1").out
    assert "saved by replay: 2 calls, 13,300 tokens, 0.0105 USD" in told
    assert re.search(r"analyses +0 .* 0\.0105", told), told


def test_a_run_that_is_not_there_is_told(cli):
    drive(cli, lambda engine: engine.run(research("a"), id="r-1"))
    assert "No run has the id 'r-2'" in cli.fails("cost", "r-2")
