"""What can be said to a run, with its forms: answered by the run in memory, from its history, or by a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import pytest
from engine_kit import Place, run

import perdure
from perdure import Engine, workflow


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Note:
    text: str
    kind: Literal["a", "b"] = "a"


@workflow(name="interface.talks")
async def talks() -> int:
    def add(note: Note, twice: bool = False, *, by: str) -> int:
        return 1

    def odd(*words: str) -> int:
        return len(words)

    def progress(unit) -> float:  # type: ignore[no-untyped-def]
        return 0.5

    perdure.on_update(add)
    perdure.on_update(odd)
    perdure.on_query(progress)
    either = [
        asyncio.create_task(perdure.receive(name, type)) for name, type in (("order", Order), ("any", None))
    ]
    done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    for task in either:
        task.cancel()
    return len(done)


def check(found: perdure.RunInterface) -> None:
    assert set(found.messages) == {"order", "any"}
    order = found.messages["order"]
    assert order is not None
    assert order["$defs"]["Order"]["properties"]["count"] == {"type": "integer", "default": 1}
    assert found.messages["any"] is None
    add = found.updates["add"]
    assert add is not None
    assert list(add["properties"]) == ["note", "twice", "by"]
    assert add["required"] == ["note", "by"]
    assert add["properties"]["twice"] == {"type": "boolean", "default": False}
    assert add["$defs"]["Note"]["properties"]["kind"]["enum"] == ["a", "b"]
    assert found.updates["odd"] is None
    assert found.queries == {"progress": {"type": "object", "properties": {"unit": {}}, "required": ["unit"]}}


async def waits(engine: Engine, id: str) -> None:
    while len((await engine.get(id).info()).waiting_for) < 2:
        await asyncio.sleep(0.01)


def test_it_is_told_by_the_run_and_from_its_history(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(talks(), id="a")
            await waits(engine, "a")
            check(await handle.interface())
        async with place.engine(worker=False) as engine:
            check(await engine.get("a").interface())

    run(main)


def test_an_ended_run_waits_for_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(talks(), id="a")
            await handle.send("any", 1)
            assert await handle.result() == 1
            found = await handle.interface()
            assert found.messages == {}
            assert set(found.updates) == {"add", "odd"}
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("b").interface()

    run(main)
