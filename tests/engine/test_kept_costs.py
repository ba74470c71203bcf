"""What runs have spent stays known when they are removed: in reports, quotas, archives, and another database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from engine_kit import PATIENCE, Place, Wrapped

import perdure
from helpers.postgres import lent_database
from perdure import Engine, Quota, Retention, UsageLine, step, workflow
from perdure.runtime.moving import Mover
from perdure.storage.archives import archive_at

KINDS = ["memory", "sqlite", "postgres"]


@step(name="kept.asks")
async def asks(model: str) -> str:
    perdure.record_usage(model=model, input_tokens=100, output_tokens=10, cost="0.5")
    return model


@workflow(name="kept.research")
async def research(*models: str) -> int:
    return len([await asks(model) for model in models])


@workflow(name="kept.parent")
async def parent(model: str) -> int:
    return await research(model) + await research(model)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Makes databases of a kind."""
    with ExitStack() as lent:

        def make(kind: str) -> Place:
            if kind == "postgres":
                return Place(url=lent.enter_context(lent_database()))
            return Place(tmp_path / f"{kind}.db") if kind == "sqlite" else Place()

        yield make


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, make: Callable[[str], Place]) -> Place:
    return make(request.param)


def within(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(bounded())


async def work(engine: Engine) -> None:
    await engine.run(research("m-1", "m-2"), id="r-1", key="acme")
    await engine.run(parent("m-1"), id="p-1")


async def told(engine: Engine, **only: Any) -> dict[str, list[UsageLine]]:
    """All reports that don't need the runs."""
    shares = ("step", "workflow", "model", "day", "month")
    return {"": await engine.usage(**only)} | {by: await engine.usage(by, **only) for by in shares}


async def prune(engine: Engine, archive: str | None = None) -> int:
    pruned = await engine.prune([Retention(0, archive=archive)])
    assert pruned is not None
    return pruned.runs


def test_reports_are_the_same_after_runs_were_removed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await work(engine)
            before = await told(engine)
            assert before[""][0].usage.cost == Decimal(2)
            assert [line.name for line in before["model"]] == ["m-1", "m-2"]
            assert await prune(engine) == 4
            assert [run async for run in engine.runs()] == []
            assert await told(engine) == before
            await work(engine)  # and under the same ids once more
            assert (await engine.usage())[0].usage.cost == Decimal(4)
            (here,) = await engine.usage(key="acme")
            assert here.usage.cost == Decimal(1)
            lines = {(line.name, line.removed): line.usage.cost for line in await engine.usage("key")}
            assert lines == {("acme", False): Decimal(1), (None, False): Decimal(1), (None, True): Decimal(2)}
            assert (await engine.get("r-1").usage()).cost == Decimal(1)
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            assert (await engine.usage(since=tomorrow))[0].usage.cost == 0
            assert (await engine.usage(until=tomorrow))[0].usage.cost == Decimal(4)

    within(main)


def test_a_namespace_sees_its_own_and_its_quota_counts_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            acme = engine.namespace("acme")
            await engine.quotas.set("acme", Quota(usd=1, per="month"))
            await acme.run(research("m-1"), id="r-1")
            await engine.run(research("m-1", "m-1"), id="r-1")
            assert await prune(engine) == 2
            (own,) = await acme.usage()
            assert own.usage.cost == Decimal("0.5")
            assert [line.removed for line in await acme.usage("run")] == [True]
            beginning = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            _, spent = await engine._store.quotas.measure("acme", since=beginning.timestamp())
            assert spent == 500_000_000

    within(main)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz"])
def test_what_comes_back_from_an_archive_is_counted_once(place: Place, form: str, tmp_path: Path) -> None:
    old = f"file://{tmp_path}/old?format={form}"

    async def main() -> None:
        async with place.engine() as engine:
            await work(engine)
            before = await told(engine)
            assert await prune(engine, old) == 4
            package = archive_at(old).find("r-1")
            assert package is not None
            assert await engine._store.moving.put([package]) == [True]
            assert await told(engine) == before
            assert (await engine.get("r-1").usage()).cost == Decimal(1)
            assert await prune(engine, f"{old}&again") == 1
            assert await told(engine) == before

    within(main)


class DiesBefore(Wrapped):
    """A store that ends whoever gives it sums, or has given them."""

    def __init__(self, inner: Any, *, done: bool) -> None:
        super().__init__(inner)
        self.ledger = self
        self.done = done

    async def receive(self, origin: str, totals: Any) -> None:
        if self.done:
            await self.inner.ledger.receive(origin, totals)
        raise Killed


class Killed(BaseException):
    """The mover's process is gone."""


@pytest.mark.parametrize("route", [("memory", "sqlite"), ("sqlite", "postgres"), ("postgres", "memory")])
def test_a_move_takes_the_sums_along_once(make: Callable[[str], Place], route: tuple[str, str]) -> None:
    source, target = (make(kind) for kind in route)

    async def main() -> None:
        async with source.engine() as engine, target.engine() as other:
            await work(engine)
            assert await prune(engine) == 4
            await engine.run(research("m-3"), id="r-2")
            before = await told(engine)
            await other.run(research("m-9"), id="there")
            assert await prune(other) == 1
        one, there = source.store(), target.store()
        await one.open()
        await there.open()
        for done in (False, True):
            with pytest.raises(Killed):
                dies: Any = DiesBefore(there, done=done)
                await Mover(one, dies, "elsewhere").move()
        await Mover(one, there, "elsewhere").move()
        await one.close()
        await there.close()
        async with target.engine() as engine:
            after = await told(engine)
            assert after[""][0].usage.cost == before[""][0].usage.cost + Decimal("0.5")
            assert [line for line in after["model"] if line.name != "m-9"] == before["model"]
            assert await prune(engine) == 1
            assert await told(engine) == after

    within(main)
