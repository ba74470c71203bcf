"""Deaths at each append under encryption: what was recorded is opened by whoever takes over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, history, recorded, run
from sealed_kit import CANARY, codec, holds

import perdure
from perdure import Engine, events, step, workflow
from perdure.storage.protocol import Store
from perdure.storage.sealing import SealedStore

LEDGERS: list[Ledger] = []


@step
async def does(label: str) -> str:
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    perdure.emit("labels", label)
    return label


@workflow(name="sealed.part")
async def part(label: str) -> str:
    return await does(label)


@workflow(name="sealed.chained")
async def chained(label: str) -> str:
    first, second = await asyncio.gather(does(label), part(label))
    perdure.emit("labels", first)
    return await does(second)


def sealed(store: Store) -> SealedStore:
    return SealedStore(store, codec())


async def _dies(place: Place, dies_at: int, *, commits: bool) -> bool:
    """Whether an engine died; the run is at its end then, in the hands of another."""
    ledger = Ledger()
    LEDGERS.append(ledger)
    stores: list[Mortal] = []

    def wrap(store: Store) -> Any:
        stores.append(Mortal(sealed(store), dies_at, commits, ledger))
        return stores[-1]

    first: Engine = place.engine(wrap)
    await first.__aenter__()
    handle = await first.start(chained(CANARY), id="r")
    waiting = asyncio.ensure_future(handle.result())
    dead = asyncio.ensure_future(stores[0].dead.wait())
    await asyncio.wait([waiting, dead], return_when=asyncio.FIRST_COMPLETED)
    died = dead.done()
    waiting.cancel()
    dead.cancel()
    if not died:
        assert await handle.result() == CANARY
        await first.close()
        return False
    await crash(first)
    await bury(place)
    async with place.engine(sealed) as second:
        handle = second.get("r")
        assert await handle.result(timeout=60) == CANARY
        assert len(await recorded(handle)) == 2
        assert not any(isinstance(event, events.Sealed) for event in await history(handle))
        items = [item.value async for item in handle.stream("labels")]
        assert items.count(CANARY) >= 3
    return True


@pytest.mark.parametrize("commits", [False, True], ids=["before", "after"])
def test_a_crash_at_any_append_is_survived(file: Place, commits: bool, tmp_path: Any) -> None:
    async def main() -> None:
        number = 1
        while await _dies(Place(tmp_path / f"{number}.db"), number, commits=commits):
            number += 1
        assert number > 5
        for each in range(1, number):
            assert holds(tmp_path / f"{each}.db", CANARY) == []

    run(main)


def test_namespaces_have_keys_of_their_own(file: Place) -> None:
    """A subject of one isn't that of another with the same name."""
    LEDGERS.append(Ledger())

    async def main() -> None:
        async with file.engine(sealed) as engine:
            acme, other = engine.namespace("acme"), engine.namespace("other")
            for one in (acme, other):
                assert await one.run(part("x"), id="r", subject="c") == "x"
            assert (await acme.erase(subject="c")).keys == 1
            assert isinstance((await history(acme.get("r")))[0], events.Sealed)
            assert isinstance((await history(other.get("r")))[0], events.RunStarted)

    run(main)
