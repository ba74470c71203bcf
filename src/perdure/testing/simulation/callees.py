"""Runs and entities that simulated clients call from outside.

What each call does is a step with the call's tag, so the observer sees one that is executed twice.
"""

from __future__ import annotations

import asyncio
from typing import Final

import perdure
from perdure import workflow
from perdure.testing.simulation.books import books
from perdure.testing.torture import workshop

TALLY: Final = "perdure.simulation.tally"
SINGLE: Final = "perdure.simulation.single"
BAD: Final = "bad"  #: ends the tags of calls that are to be turned away


@workflow(name="perdure.simulation.takes_updates")
async def takes_updates(count: int) -> list[str]:
    """Take so many updates, and give back what they were in the order in which they ended."""
    taken: list[str] = []
    under_way = 0

    def look(tag: str) -> None:
        if tag.endswith(BAD):
            raise ValueError(tag)

    async def add(tag: str) -> int:
        nonlocal under_way
        under_way += 1
        workshop.books.sees((await workshop.works(tag, 20))[0])
        taken.append(tag)
        under_way -= 1
        return len(taken)

    perdure.on_update(add, validator=look)
    await perdure.until(lambda: len(taken) >= count and not under_way)
    return taken


@workflow(name=SINGLE, singleton=True)
async def is_single(name: str, milliseconds: int, more: int, fails: bool) -> str:
    """Work for a while, and go on as so many generations. If it is to, it fails until it is mended."""
    run = perdure.info()
    tag = f"{run.id}~{run.generation}"
    workshop.books.sees((await workshop.works(tag, milliseconds))[0])
    if fails and run.id not in books().mended:
        raise ValueError(run.id)
    if more:
        perdure.continue_as(is_single(name, milliseconds, more - 1, fails))
    return name


@perdure.entity(name=TALLY)
class Tally:
    """Keeps what it was called with."""

    state: dict[str, list[str]]

    async def add(self, tag: str) -> int:
        taken = self.state.setdefault("taken", [])
        taken.append(tag)
        workshop.books.sees((await workshop.works(tag, 20))[0])
        if tag.endswith(BAD):
            raise ValueError(tag)
        await asyncio.sleep(0.01)
        return len(taken)

    @perdure.read
    def taken(self) -> list[str]:
        return self.state.get("taken", [])
