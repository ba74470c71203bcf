"""A crash at any append or distribution: each event reaches each run that wants it once, and is published once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, MortalPart, Place, bury, crash, run, until
from publication_kit import waiting_rows

import perdure
from perdure import Engine, step, workflow
from perdure.runtime import definitions
from perdure.storage.protocol import Store


@step(name="pubcrash.tells")
async def tells(number: int) -> int:
    perdure.publish("told", number)
    return number


@workflow(name="pubcrash.publishes")
async def publishes(count: int) -> None:
    for number in range(count):
        perdure.publish("n", number)
        await tells(number)


@workflow(name="pubcrash.listens")
async def listens(count: int) -> list[Any]:
    async def odd() -> Any:
        with suppress(TimeoutError):
            await perdure.event("never", timeout=0.001)
        return await perdure.event("told", where={}, timeout=3600)

    other = asyncio.create_task(odd())
    got = [await perdure.event("n") for _ in range(count)]
    return [*got, await other]


@pytest.fixture
def subscribed() -> Any:
    @workflow(name="pubcrash.started", on=perdure.Event("n"))
    async def started(number: int) -> int:
        return number

    @workflow(name="pubcrash.batched", on=perdure.Event("told", batch=2, within=0.01))
    async def batched(numbers: list[int]) -> list[int]:
        return numbers

    yield
    del definitions._workflows["pubcrash.started"], definitions._workflows["pubcrash.batched"]


async def lives(engine: Engine) -> list[Any]:
    """A life of the program, started as often as need be."""
    listener = await engine.start(listens(2), id="listens")
    await engine.start(publishes(2), id="publishes")
    return await listener.result()


async def everything(place: Place) -> tuple[Any, ...]:
    """What is to be the same, whoever died when."""
    async with place.engine() as engine:
        heard = await lives(engine)
        await engine.get("publishes").result()

        async def done() -> bool:
            runs = [found async for found in engine.runs(limit=None)]
            settled = [one.settled async for one in engine.publications(limit=None)]
            return (
                all(settled)
                and len(settled) == 4
                and len(runs) >= 5
                and all(found.status.final for found in runs)
            )

        await until(done)
        await asyncio.sleep(0.02)  # what would be too much has time to come
        await until(done)
        results = {
            found.id: await engine.get(found.id).result()
            async for found in engine.runs(limit=None)
            if found.workflow.startswith(("pubcrash.started", "pubcrash.batched"))
        }
        published = sorted([(one.name, one.payload) async for one in engine.publications(limit=None)])
    assert await waiting_rows(place) == []
    started = sorted(value for value in results.values() if isinstance(value, int))
    batched = sorted(number for value in results.values() if isinstance(value, list) for number in value)
    return heard, started, batched, published


WHOLE = ([0, 1, 0], [0, 1], [0, 1], [("n", 0), ("n", 1), ("told", 0), ("told", 1)])


def test_without_a_crash(place: Place, subscribed: None) -> None:
    assert run(lambda: everything(place)) == WHOLE


@pytest.mark.parametrize("commits", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(1, 13))
def test_a_crash_at_any_append(place: Place, subscribed: None, dies_at: int, commits: bool) -> None:
    async def main() -> tuple[Any, ...]:
        mortal: list[Mortal] = []

        def wrap(store: Store) -> Mortal:
            mortal.append(Mortal(store, dies_at, commits, Ledger()))
            return mortal[0]

        await die(place.engine(wrap), mortal[0].dead)
        await bury(place)
        return await everything(place)

    assert run(main) == WHOLE


class DiesDistributing(Mortal):
    """Dies at its n-th distribution, before or after that is durable."""

    def __getattr__(self, name: str) -> Any:
        verb = super().__getattr__(name)
        return _Distributing(self, self.inner.publications) if name == "publications" else verb


class _Distributing(MortalPart):
    async def distribute(self, *, now: float) -> Any:
        self.store.left -= 1
        if self.store.left == 0:
            if self.store.commits:
                await self.inner.distribute(now=now)
            self.store.dead.set()
        return await self.store.answers(self.inner.distribute, (), {"now": now})


@pytest.mark.parametrize("commits", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_crash_at_any_distribution(place: Place, subscribed: None, dies_at: int, commits: bool) -> None:
    async def main() -> tuple[Any, ...]:
        mortal: list[Mortal] = []

        def wrap(store: Store) -> Mortal:
            mortal.append(DiesDistributing(store, 1 << 30, commits, Ledger()))
            mortal[0].left = dies_at
            return mortal[0]

        await die(place.engine(wrap), mortal[0].dead)
        await bury(place)
        return await everything(place)

    assert run(main) == WHOLE


async def die(engine: Engine, dead: asyncio.Event) -> None:
    """Live until death, or to the end if that comes first."""
    await engine.__aenter__()
    life = asyncio.ensure_future(lives(engine))
    end = asyncio.ensure_future(dead.wait())
    await asyncio.wait([life, end], return_when=asyncio.FIRST_COMPLETED)
    for task in (life, end):
        task.cancel()
    await asyncio.gather(life, end, return_exceptions=True)
    await crash(engine)
