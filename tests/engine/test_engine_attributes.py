"""Attributes: set from inside and outside, typed, and runs are found by them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from engine_kit import Place, of_kind, reaches, run, until

import perdure
from perdure import Engine, events, step, workflow
from perdure.errors import UsageError

DAY = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
GATES: dict[str, asyncio.Event] = {}


@step(name="attributes.waits")
async def waits(gate: str) -> None:
    await GATES[gate].wait()


@workflow(name="attributes.order")
async def order(customer: str) -> str:
    perdure.set_attributes(customer=customer, total=12.5, urgent=False, day=DAY, tags=["new", "eu"])
    await waits("order")
    perdure.set_attributes(urgent=True, tags=None)
    return customer


async def ids(engine: Engine, **options: Any) -> list[str]:
    return [item.id async for item in engine.runs(**options)]


def test_runs_are_found_by_what_their_code_sets(place: Place) -> None:
    async def main() -> None:
        GATES["order"] = asyncio.Event()
        async with place.engine() as engine:
            handle = await engine.start(order("x"), id="a", attributes={"region": "eu"})
            await engine.start(order("y"), id="b")
            await until(lambda: _attributes(engine, "b"))
            info = await handle.info()
            assert info.attributes == {
                "customer": "x", "total": 12.5, "urgent": False, "day": DAY, "tags": ["new", "eu"],
                "region": "eu",
            }  # fmt: skip
            assert await ids(engine, attributes={"customer": "x"}) == ["a"]
            assert await ids(engine, attributes={"tags": "eu"}) == ["b", "a"]
            assert await ids(engine, attributes={"total": (">", 12), "region": "eu"}) == ["a"]
            assert await ids(engine, attributes={"total": [(">", 12), ("<", 12.5)]}) == []
            assert await ids(engine, attributes={"day": (">=", DAY), "urgent": False}, limit=1) == ["b"]
            GATES["order"].set()
            await handle.result()
            assert (await handle.info()).attributes["urgent"] is True
            assert "tags" not in (await handle.info()).attributes
            assert await ids(engine, attributes={"urgent": True, "region": "eu"}, status="completed") == ["a"]
            (found,) = [item async for item in engine.runs(attributes={"customer": "x"})]
            assert found.attributes == (await handle.info()).attributes

    run(main)


async def _attributes(engine: Engine, id: str) -> Any:
    return (await engine.get(id).info()).attributes


def test_attributes_set_from_outside_are_there_at_once_and_in_the_history(place: Place) -> None:
    async def main() -> None:
        GATES["order"] = asyncio.Event()
        async with place.engine() as engine, place.engine(worker=False) as client:
            handle = await engine.start(order("x"), id="a")
            await until(lambda: _attributes(engine, "a"))
            await client.get("a").set_attributes(customer="z", note="seen", urgent=None)
            assert await ids(engine, attributes={"note": "seen", "customer": "z"}) == ["a"]
            await until(lambda: _outside(handle))
            GATES["order"].set()
            assert await handle.result() == "x"
            assert [event.op for event in await of_kind(handle, events.AttributesSet)] == [
                "attributes:1", "", "attributes:2",
            ]  # fmt: skip
            await handle.set_attributes(late=1)  # an ended run can be sorted, too
            assert (await handle.info()).attributes["late"] == 1
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").set_attributes(x=1)

    run(main)


async def _outside(handle: Any) -> bool:
    return any(event.op == "" for event in await of_kind(handle, events.AttributesSet))


def test_a_sleeping_run_is_not_woken_by_attributes(place: Place) -> None:
    @workflow(name="attributes.sleeps")
    async def sleeps() -> None:
        await asyncio.sleep(1000)

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(sleeps(), id="a")
            assert engine._worker is not None
            drivers = engine._worker.drivers
            await until(lambda: not drivers)
            epoch = (await engine._store.get(["a"]))[0].epoch  # type: ignore[union-attr]
            await handle.set_attributes(x=1)
            await asyncio.sleep(0.05)
            row = (await engine._store.get(["a"]))[0]
            assert row is not None
            assert (row.epoch, row.mail) == (epoch, 1)
            await handle.cancel()
            await reaches(handle, "cancelled")
            assert [event.values for event in await of_kind(handle, events.AttributesSet)] == [b'{"x":1}']

    run(main)


@pytest.mark.parametrize(
    "values",
    [{"x": object()}, {"x": 2**63}, {"x": float("nan")}, {"x": datetime(2026, 1, 1)}, {"x": [1]},
     {"x" * 101: 1}, {"a b": 1}, {"a=": 1}, {"": 1}, {"x": "y" * 1001}, {"x": ["t"] * 5 + ["u" * 1001]}],
    ids=range(11),
)  # fmt: skip
def test_what_cannot_be_an_attribute_is_refused(memory: Place, values: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="attribute"):
            perdure.set_attributes(**values)
        async with memory.engine() as engine:
            with pytest.raises(UsageError, match="attribute"):
                await engine.start(order("x"), attributes=values)
            assert await ids(engine) == []

    run(main)


def test_comparisons_that_mean_nothing_are_refused(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            for wanted in ({"x": ("~", 1)}, {"x": (">", None)}, {"x": None}, {"x": (">", [1])}):
                with pytest.raises(UsageError):
                    await ids(engine, attributes=wanted)

    run(main)


def test_steps_set_no_attributes(memory: Place) -> None:
    @step(name="attributes.sets")
    async def sets() -> None:
        perdure.set_attributes(x=1)

    @workflow(name="attributes.setting")
    async def setting() -> str:
        with pytest.raises(UsageError, match="in a step"):
            await sets()
        return "refused"

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(setting()) == "refused"

    run(main)
    perdure.set_attributes(x=1)  # outside of runs: nothing
