"""Calls under budgets of workflow, key and child, one of them too dear; raised until all is done. The accounts must
balance with the ledger."""

import asyncio
from decimal import Decimal
from pathlib import Path

import perdure
from perdure import Budget, Spend

BODIES = Path("bodies")


@perdure.step(spends=Spend(cost=Decimal("0.03")))
async def asks(what: str) -> str:
    with BODIES.open("a") as file:
        file.write("asked\n")
    perdure.record_usage(model="m", input_tokens=10, cost="0.01")
    return what


@perdure.workflow(budget=Budget(usd=1, on_exhausted="fail", name="child"))
async def child(what: str) -> str:
    return await asks(what)


@perdure.workflow(budget=[Budget(usd="0.08", name="run"), Budget(usd=1, per="key", name="key")])
async def research() -> list[str]:
    return [*await asyncio.gather(asks("a"), child("b"), asks("c")), await asks("d")]


async def main() -> None:
    async with perdure.Engine("sqlite:///budgets.db") as engine:
        result = asyncio.create_task(engine.run(research(), id="r", key="acme"))
        while not result.done():
            info = await engine.budgets.get("run")
            if info is not None and any(account.waiting for account in info.accounts):
                await engine.budgets.raise_by("run", usd="0.02")
            await asyncio.wait([result], timeout=0.01)
        print(result.result())
        used = await engine.get("r").usage()
        asked = len(BODIES.read_text().splitlines())
        assert asked <= used.calls + used.unknown_calls, (asked, used)
        for name in ("run", "key"):
            info = await engine.budgets.get(name)
            assert info is not None
            (account,) = info.accounts
            assert account.spent == used.cost == Decimal("0.04"), (account, used)
            assert account.unknown == used.unknown_cost, (account, used)
            assert (account.reserved, account.waiting) == (0, 0), account


asyncio.run(main())
