"""The program that the acceptance tests of rate limits attack: calls of a provider that counts, and may be closed.

    python limited.py URL

What a call costs it says in its own arguments. The provider is a file: while the moment in it is to come, it turns
calls away. Each body writes a line into the ledger as its first act.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import time
from typing import Any

import perdure
from perdure import Engine, Rate, RateLimit, step, workflow

#: In any two seconds.
CALLS, TOKENS, PER = 60, 6000, 2.0
PROVIDER = RateLimit("provider", requests=Rate(CALLS, per=PER), tokens=Rate(TOKENS, per=PER, burst=1500))


class Refused(Exception):
    """As HTTP clients say it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"status 429, try again in {seconds:.2f} s")
        self.status_code = 429
        self.headers = {"retry-after": f"{seconds:.3f}"}


def closed_for() -> float:
    """How long the provider will take no calls."""
    try:
        with open(os.environ["LEDGER"] + ".closed", encoding="utf-8") as file:
            return float(file.read() or 0) - time.time()
    except FileNotFoundError:
        return 0.0


def begins(what: str, tokens: int) -> None:
    """Write a line, in one go."""
    line = {
        "what": what,
        "time": time.time(),
        "tokens": tokens,
        "pid": os.getpid(),
        "run": perdure.step_info().run_id,
    }
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@step(limit=PROVIDER.cost(tokens=lambda says: says))
async def call(says: int, uses: int) -> int:
    """Says how much it may need, and uses as much or less."""
    closed = closed_for()
    begins("refused" if closed > 0 else "begin", uses)
    if closed > 0:
        raise Refused(closed)
    await asyncio.sleep(0.02)
    perdure.settle(PROVIDER, tokens=uses)
    return uses


@step(limit=PROVIDER.cost(tokens=lambda says: says))
def call_in_a_thread(says: int, uses: int) -> int:
    begins("begin", uses)
    perdure.settle(PROVIDER, tokens=uses)
    return uses


@workflow
async def talk(seed: int, calls: int) -> int:
    """Some calls after each other, and some at once."""
    chance, total = random.Random(seed), 0
    for number in range(calls):
        says = chance.randint(1, 200)
        uses = chance.choice([says, says // 2])
        if number % 3:
            total += await call(says, uses)
        else:
            both = await asyncio.gather(call_in_a_thread(says, uses), call_in_a_thread(says, says))
            total += sum(both)
    return total


def lines(ledger: Any) -> list[dict[str, Any]]:
    """What the ledger holds. A line that was cut short by a kill counts for nothing."""
    if not ledger.exists():
        return []
    return [json.loads(line) for line in ledger.read_bytes().splitlines() if line.endswith(b"}")]


async def serve(url: str) -> None:
    async with Engine(url, evict_after=0.3, max_resident=6):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    asyncio.run(serve(sys.argv[1]))
