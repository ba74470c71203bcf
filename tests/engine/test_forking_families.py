"""A fork gets to know the child runs that its original had: it starts them not again, and tells them nothing again."""

from __future__ import annotations

from typing import Any

from engine_kit import Place, of_kind, run

import perdure
from perdure import events, step, workflow

TOLD: list[str] = []


@step(name="families.tells")
async def tells(id: str) -> str:
    TOLD.append(id)
    return id


@workflow
async def listens() -> int:
    return await perdure.receive("number", int)


@workflow
async def instructs() -> list[Any]:
    ids: list[str] = []

    @perdure.on_query
    def known() -> list[str]:
        return ids

    child = await perdure.start(listens())
    ids.append(child.id)
    await tells(child.id)
    await child.send("number", 7)
    return [child.id, await child.result()]


def test_a_fork_tells_a_child_nothing_again(place: Place) -> None:
    async def main() -> None:
        TOLD.clear()
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(instructs(), id="r")
            id, seven = await handle.result()
            assert seven == 7
            fork = await handle.fork(id="again")
            assert await fork.result() == [id, 7]
            assert id == TOLD[0]
            assert len(TOLD) == 1
            (sent,) = await of_kind(fork, events.MessageSent)
            assert sent.reused
            assert sent.run == id
        async with place.engine() as engine:  # by a replay of the fork's own history
            assert await engine.get("again").query("known") == [id]

    run(main)
