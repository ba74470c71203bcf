"""`perdure limits`, and what other commands tell of rate limits."""

from __future__ import annotations

import asyncio
import re

import perdure
from perdure import Rate, RateLimit, events

SHOP = RateLimit("shop", requests=Rate(100, per=60))


@perdure.step(limit=SHOP)
async def buys() -> str:
    return "bought"


@perdure.workflow
async def limited() -> str:
    return await buys()


def drive(cli, id, *, delayed=False):
    """Let a worker drive a run, to its end or until it waits for the limit."""

    async def there() -> None:
        async with perdure.Engine(cli.url) as worker, asyncio.timeout(60):
            handle = await worker.start(limited(), id=id)
            if not delayed:
                await handle.result()
            while delayed and not any(
                [isinstance(event, events.StepDelayed) async for event in handle.history()]
            ):
                await asyncio.sleep(0.01)

    asyncio.run(there())


def test_limits_are_listed_blocked_and_unblocked(cli):
    cli.within(lambda engine: engine.limits.list())
    assert "No step has been under a rate limit" in cli("limits").err
    assert "is blocked until" in cli("limits", "block", "shop", "--for", "1h").err
    assert re.search(r"shop\s+in (1 h|59 min)", cli("limits").out)
    drive(cli, "r", delayed=True)
    told = cli("why", "r").out
    assert re.search(r"buys#1' waits for the rate limit shop.*\n    what to do: perdure limits", told)
    assert re.search(r"buys#1\s+waits 15 min for the rate limit shop", cli("show", "r").out)
    (listed,) = cli("limits", "--json").json
    requests = listed["units"]["requests"]
    assert (listed["name"], requests["limit"], requests["free"]) == ("shop", 100, 0)
    assert listed["blocked_until"] is not None
    assert "isn't blocked any more" in cli("limits", "unblock", "shop").err
    drive(cli, "s")
    assert re.search(r"shop\s+requests\s+100 per 1 min\s+(9|10)\s+0\s+now", cli("limits").out)
    assert "begins anew" in cli("limits", "reset", "shop").err
    assert cli("limits", "--json").json[0]["blocked_until"] is None


def test_mistakes_are_told(cli):
    assert "There is no database" in cli.fails("limits", "block", "shop", "--for", "1h")
    cli.within(lambda engine: engine.limits.block("shop", after=3600))
    assert "There is no rate limit 'shpo'. Did you mean" in cli.fails("limits", "unblock", "shpo")
    assert "Say for how long" in cli.fails("limits", "block", "shop")
    assert "is no length of time" in cli.fails("limits", "block", "shop", "--for", "soon")
    assert "that moment is over" in cli("limits", "block", "other", "--until", "2020-01-01").err
