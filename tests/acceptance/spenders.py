"""The program that the acceptance test of budgets attacks: agents under one budget that ask a provider.

python spenders.py URL PROVIDER
"""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal
from urllib.request import Request, urlopen

import perdure

PROVIDER = sys.argv[2] if len(sys.argv) > 2 else ""

#: What a call costs, and what it may cost.
COST, MOST = Decimal("0.01"), Decimal("0.03")

TEAM = perdure.Budget(usd="0.50", per="key", name="team")


@perdure.step(spends=perdure.Spend(cost=MOST))
def asks(question: str) -> str:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": question}]}
    headers = {"content-type": "application/json", "idempotency-key": perdure.idempotency_key()}
    request = Request(f"{PROVIDER}/v1/chat/completions", json.dumps(body).encode(), headers, method="POST")
    with urlopen(request, timeout=60) as answer:
        said = json.load(answer)
    perdure.record_usage(model=said["model"], cost=COST)
    return str(said["choices"][0]["message"]["content"])


@perdure.workflow(budget=TEAM)
async def research(topic: str, questions: int) -> int:
    answers = await asyncio.gather(*(asks(f"{topic}, question {number}") for number in range(questions)))
    return len(answers)


async def serve() -> None:
    async with perdure.Engine(sys.argv[1]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
