"""What Restate's server calls: the same works as the other engines', served by Granian (see `with_restate.py`)."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from typing import Any

import restate

#: Whether `hold` holds: in the first process.
HOLDING = bool(os.environ.get("BENCH_HOLDING"))

bench = restate.Service("bench")
talk = restate.Workflow("talk")

late: list[float] = []
holding = 0
ended = 0


def increment(number: int) -> int:
    return number + 1


def produce(size: int) -> str:
    return "x" * size


async def _hold() -> None:
    """Goes on only in the second process."""
    global holding
    if HOLDING:
        holding += 1
        await asyncio.Event().wait()


@bench.handler()
async def count(ctx: restate.Context, parameters: dict[str, Any]) -> int:
    global ended
    number = 0
    for _ in range(parameters["steps"]):
        number = await ctx.run_typed("increment", increment, number=number)
    if parameters.get("hold"):
        await ctx.run_typed("hold", _hold)
        ended += 1
    return number


@bench.handler()
async def count_and_stamp(ctx: restate.Context, steps: int) -> list[float]:
    stamps = []
    for number in range(steps):
        await ctx.run_typed("increment", increment, number=number)
        stamps.append(time.perf_counter())
    return stamps


@bench.handler()
async def spread_out(ctx: restate.Context, items: int) -> int:
    done = 0
    for first in range(0, items, 100):  # as many at once as Perdure's map has
        some = range(first, min(first + 100, items))
        futures = [ctx.run_typed("increment", increment, number=number) for number in some]
        done += len(await restate.gather(*futures))
    return done


@bench.handler()
async def produce_many(ctx: restate.Context, parameters: dict[str, int]) -> None:
    for _ in range(parameters["steps"]):
        await ctx.run_typed("produce", produce, size=parameters["size"])


@bench.handler()
async def sleep_until(ctx: restate.Context, due: float) -> None:
    await ctx.sleep(timedelta(seconds=max(0.0, due - time.time())))
    late.append(time.time() - due)


@bench.handler()
async def report(ctx: restate.Context, _: int) -> dict[str, Any]:
    """What happened in this process so far."""
    return {"late": late, "holding": holding, "ended": ended}


@talk.main()
async def answer(ctx: restate.WorkflowContext, messages: int) -> None:
    for number in range(messages):
        found = await ctx.promise(f"ask {number}", type_hint=int).value()
        await ctx.promise(f"answer {number}", type_hint=int).resolve(found)


@talk.handler()
async def ask(ctx: restate.WorkflowSharedContext, number: int) -> int:
    await ctx.promise(f"ask {number}", type_hint=int).resolve(number)
    return await ctx.promise(f"answer {number}", type_hint=int).value()


app = restate.app([bench, talk])
