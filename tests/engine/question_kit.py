"""What tests of questions and approvals share."""

from __future__ import annotations

import asyncio

from perdure import Engine, QuestionInfo


async def open_questions(engine: Engine, id: str, count: int = 1) -> list[QuestionInfo]:
    """What a run asks, once it asks so much."""
    for _ in range(3000):
        found = [item async for item in engine.questions(run=id)]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"run {id} asks too little")


async def open_question(engine: Engine, id: str) -> QuestionInfo:
    """The question that a run asks, once it does."""
    return (await open_questions(engine, id))[0]
