"""`perdure fork` with changes and without effects, and `perdure diff`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import perdure
from perdure import step, workflow


@step(name="iterated.asks", effect="read")
async def asks(prompt: str, model: str = "big") -> str:
    perdure.record_usage(model="m", input_tokens=100, cost="0.01")
    return f"{model} on {prompt}:\nfirst\nlast"


@step(name="iterated.mails")
async def mails(text: str) -> str:
    return f"sent {len(text)}"


@workflow(name="iterated.report")
async def report(topic: str, more: str = "") -> str:
    await asks("always")
    told = await asks(topic)
    await mails(told)
    return told + more


def drive(cli: Any, *forks: str) -> None:
    """Start the run, and let it and these runs go on to their ends."""

    async def main() -> None:
        async with perdure.Engine(cli.url) as engine:
            await (await engine.start(report("bees"), id="r")).result()
            for id in forks:
                with suppress(perdure.RunFailed):
                    await engine.get(id).result()

    asyncio.run(main())


def test_a_plan_with_its_bill(cli: Any) -> None:
    drive(cli)
    plan = cli("fork", "r", "--change", 'asks#2={"prompt": "wasps"}', "--dry-run")
    assert plan.out.splitlines() == [
        "taken over  iterated.asks#1",
        "runs        iterated.asks#2",
        "may follow  iterated.mails#1",
        "saves: 0.01 USD, 1 call, 100 tokens",
        "costs about: 0.01 USD, 1 call, 100 tokens",
    ]
    found = cli("fork", "r", "--effects", "reuse", "--input", '["wasps"]', "--dry-run", "--json").json
    assert found["runs"] == ["iterated.asks#2"]
    assert found["cost"]["cost"] == "0.01"
    stubbed = cli("fork", "r", "--at", "mails", "--effects", "stub", "--stub", 'mails="x"', "--dry-run")
    assert "stubbed     iterated.mails#1" in stubbed.out
    refused = cli("fork", "r", "--at", "mails", "--effects", "reuse", "--dry-run")
    assert "refused     iterated.mails#1" in refused.out


def test_forks_and_their_difference(cli: Any) -> None:
    drive(cli)
    for id, options in {
        "given": ("--input", '{"topic": "wasps"}'),
        "changed": ("--change-input", '{"topic": "wasps"}'),
        "reworded": ("--text", 'asks={"bees": "wasps"}'),
        "called": ("--args", 'asks#2={"prompt": "wasps"}'),
        "many": ("--change", 'asks={"model": "small"}'),
        "stubbed": ("--input", '["wasps"]', "--effects", "stub"),
        "refused": ("--input", '["wasps"]', "--effects", "reuse", "--refused", "fail"),
    }.items():
        assert cli("fork", "r", *options, "--id", id).out == f"{id}\n"
    drive(cli, "given", "changed", "reworded", "called", "many", "stubbed", "refused")
    told = cli("diff", "r", "stubbed").out
    assert "status    completed" in told
    assert "= 1 the same, 1 of them taken over" in told
    assert "~ iterated.asks#2" in told
    assert '    input prompt: "bees"' in told
    assert "      -big on bees:" in told
    assert "      +big on wasps:" in told
    assert "~ iterated.mails#1  completed" in told
    assert "completed, stubbed" in told
    shown = cli("show", "stubbed").out
    assert "counterfactual, going on from run r" in shown
    assert "(taken over)" in shown
    assert "(stubbed)" in shown
    both = cli("diff", "r", "given", "--all", "--full").out
    assert "= iterated.asks#1  completed" in both
    found = cli("diff", "r", "refused", "--json").json
    assert [one["verdict"] for one in found["steps"]] == ["same", "changed", "changed"]
    assert found["steps"][2]["b"]["error"].startswith("perdure.errors.EffectRefused")
    assert found["a"]["usage"]["calls"] == 2
    assert "No run has the id" in cli.fails("diff", "r", "nobody")


def test_what_was_refused_is_shown(cli: Any) -> None:
    drive(cli)
    cli("fork", "r", "--input", '["wasps"]', "--effects", "reuse", "--id", "f")

    async def main() -> None:
        async with perdure.Engine(cli.url) as engine:
            while await engine.get("f").status() != "blocked":
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert "refused; step 'iterated.mails#1' would have an effect outside" in cli("show", "f").out
    told = cli("why", "f").out
    assert "perdure resolve f 'iterated.mails#1' --result JSON" in told
    assert "--rerun" not in told


def test_what_was_given_wrongly(cli: Any) -> None:
    drive(cli)
    assert "isn't a JSON object" in cli.fails("fork", "r", "--change", "asks=[1]")
    assert "not both" in cli.fails("fork", "r", "--input", "[]", "--change-input", "{}")
    assert "--change-input isn't a JSON object" in cli.fails("fork", "r", "--change-input", "[1]")
    assert "names no step" in cli.fails("fork", "r", "--stub", "mails")
    assert "stubs=..." in cli.fails("fork", "r", "--stub", "mails=1")
