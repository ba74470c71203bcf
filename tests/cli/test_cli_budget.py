"""`perdure budget`, and what other commands tell of budgets."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal

import perdure
from perdure import Budget, Spend


@perdure.step(spends=Spend(cost=Decimal("0.30")))
async def calls() -> str:
    perdure.record_usage(model="m", input_tokens=1000, output_tokens=10, cost="0.10")
    return "called"


@perdure.workflow(name="thrifty", budget=Budget(usd=1, tokens=100_000))
async def thrifty(number: int) -> int:
    for _ in range(number):
        await calls()
    return number


@perdure.workflow(name="spiky", budget=Budget(spike="0.35", per="workflow"))
async def spiky() -> str:
    await calls()
    return await calls()


def drive(cli, call, id, *, blocked=False):
    """Let a worker drive a run, to its end or until it is blocked."""

    async def there() -> None:
        async with perdure.Engine(cli.url) as worker, asyncio.timeout(60):
            handle = await worker.start(call, id=id)
            if not blocked:
                await handle.result()
            while blocked and await handle.status() != "blocked":
                await asyncio.sleep(0.01)

    asyncio.run(there())


def test_budgets_are_listed_raised_and_set(cli):
    cli.within(lambda engine: engine.budgets.list())
    drive(cli, thrifty(9), "r-1", blocked=True)
    assert "thrifty: 1 USD and 100000 tokens per run of thrifty, then pause" in cli("budget").out
    assert re.search(r"r-1\s+0.80?\s+0.00\s+0.00\s+1.00\s+8,080\s+100,000\s+1", cli("budget", "list").out)
    told = cli("why", "r-1").out
    assert re.search(r"has no money to begin: .*0.8 USD of 1 USD are spent", told)
    assert "perdure budget raise thrifty --for r-1 --usd N" in told
    assert re.search(r"waits for money: .*0.8 USD of 1 USD", cli("show", "r-1").out)
    (account,) = cli("budget", "show", "thrifty", "--json").json["accounts"]
    assert (account["owner"], account["spent"], account["left"], account["waiting"]) == (
        "r-1",
        "0.8",
        "0.2",
        1,
    )
    assert "is raised by 2 USD" in cli("budget", "raise", "thrifty", "--usd", "2").err
    drive(cli, thrifty(9), "r-1")
    assert "asks again: its budget was raised" in cli("show", "r-1").out
    assert "allows 20 USD per run of thrifty" in cli("budget", "set", "thrifty", "--usd", "20").err
    assert "(set by a person)" in cli("budget").out
    assert "allows 1 USD and 100000 tokens" in cli("budget", "reset", "thrifty").err
    assert "is forgotten" in cli("budget", "remove", "spiky").err
    assert {each["name"] for each in cli("budget", "--json").json} >= {"thrifty"}


def test_a_breaker_is_shown_and_closed(cli):
    drive(cli, spiky(), "r", blocked=True)
    assert re.search(r"spiky .* breaker open since", cli("budget", "show", "spiky").out)
    assert "its breaker is open" in cli("why", "r").out
    assert "is closed" in cli("budget", "close", "spiky").err
    drive(cli, spiky(), "r")


def test_mistakes_are_told(cli):
    drive(cli, thrifty(1), "a")
    drive(cli, thrifty(1), "b")
    assert "There is no budget 'thrifti'. Did you mean thrifty?" in cli.fails("budget", "show", "thrifti")
    assert "Say by how much" in cli.fails("budget", "raise", "thrifty")
    assert "say whose to change ('a', 'b')" in cli.fails("budget", "raise", "thrifty", "--usd", "1")
    assert "give an amount of US dollars" in cli.fails("budget", "set", "thrifty", "--usd", "x")
    assert "is no number" in cli.fails("budget", "set", "thrifty", "--tokens", "x")
