"""A budget sets the worst case of a call of a model aside before it is made."""

from __future__ import annotations

from decimal import Decimal

from engine_kit import Place
from llm_kit import CLIENTS, SAID, provider, run

from perdure import Budget, BudgetExceeded, workflow
from perdure.ai import llm
from perdure.testing.fake_llm import FakeLLM

__all__ = ["provider"]


@workflow(budget=Budget(usd="0.01", on_exhausted="fail"))
async def asks_until_broke(max_tokens: int) -> int:
    """Tokens of output cost 5 USD a million here."""
    asked = 0
    try:
        for _ in range(30):
            create = CLIENTS["aanthropic"].messages.create
            await llm(create, model="claude-haiku-4-5", max_tokens=max_tokens, messages=SAID)
            asked += 1
    except BudgetExceeded:
        pass
    return asked


def test_a_call_that_might_cost_too_much_is_not_made(place: Place, provider: FakeLLM) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(asks_until_broke(2_100), id="dear") == 0  # 0.0105 USD at most
            assert len(provider.calls) == 0
            assert await engine.run(asks_until_broke(100), id="cheap") == 30
            assert (await engine.get("cheap").usage()).cost < Decimal("0.01")

    run(main)
