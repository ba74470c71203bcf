"""A crash at any append: nothing is settled twice, no reservation is lost, none stays without a reason."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, Refusing, bury, crash, run, until

import perdure
from perdure import Budget, Engine, Retry, Spend, step, workflow

CALLS: list[str] = []
#: How many calls are being made, or may have been made without anybody knowing.
COST, MOST = Decimal("0.10"), Decimal("0.30")


@pytest.fixture(autouse=True)
def nothing_is_called_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr("perdure.runtime.spending._spenders", set())
    monkeypatch.setattr("perdure.runtime.purse.CROWD_MAX", 0.1)
    monkeypatch.setattr("perdure.runtime.purse.CROWD_NAP", 0.1)


@step(spends=Spend(cost=MOST), retry=Retry(initial=0.001))
async def asks(what: str) -> str:
    CALLS.append(what)
    perdure.record_usage(model="m", provider="p", input_tokens=100, cost=COST)
    await asyncio.sleep(0)
    if what == "twice" and perdure.step_info().attempt < 2:
        raise ValueError("not JSON")
    return what


@workflow
async def child() -> str:
    return await asks("child")


@workflow(budget=[Budget(usd="0.75", name="small"), Budget(usd=9, per="key", name="large")])
async def research() -> list[str]:
    both = await asyncio.gather(asks("a"), asks("twice"))
    return [*both, await child(), await asks("b"), await asks("c"), await asks("d"), await asks("e")]


async def account(engine: Engine, name: str, owner: str) -> Any:
    info = await engine.budgets.get(name)
    assert info is not None
    (found,) = [each for each in info.accounts if each.owner == owner]
    return found


async def rich(engine: Engine, id: str = "r") -> list[str]:
    """Raise the budget whenever the run, whose key is its id, has used it up, until it ends."""
    handle = await engine.start(research(), id=id, key=id)
    result = asyncio.create_task(handle.result())
    while not result.done():
        info = await engine.budgets.get("small")
        if info is not None and any(each.waiting for each in info.accounts if each.owner == id):
            await engine.budgets.raise_by("small", usd="0.2", owner=id)
        await asyncio.wait([result], timeout=0.005)
    return result.result()


async def life(place: Place, id: str, dies_at: int, *, commits: bool) -> bool:
    """Let an engine die at its n-th append, or end the run before."""
    mortal: list[Mortal] = []

    def wrap(inner: Any) -> Mortal:
        mortal.append(Mortal(inner, dies_at, commits, Ledger()))
        return mortal[0]

    engine = place.engine(wrap)
    await engine.__aenter__()
    work = asyncio.create_task(rich(engine, id))
    death = asyncio.create_task(mortal[0].dead.wait())
    await asyncio.wait([work, death], return_when=asyncio.FIRST_COMPLETED)
    died = death.done()
    for task in (work, death):
        task.cancel()
    await asyncio.gather(work, death, return_exceptions=True)
    if died:
        await crash(engine)
        await bury(place)
    else:
        await engine.close()
    return died


@pytest.mark.parametrize("commits", [False, True], ids=["before it is durable", "after it is durable"])
def test_a_crash_at_any_append_settles_each_call_once(
    place: Place, make_place: Places, commits: bool
) -> None:
    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            CALLS.clear()
            id = f"r-{number}"
            died = await life(place, id, number, commits=commits)
            async with place.engine() as engine:
                assert await rich(engine, id) == ["a", "twice", "child", "b", "c", "d", "e"]
                used = await engine.get(id).usage()
                for name in ("small", "large"):
                    found = await account(engine, name, id)
                    where = f"{name}, died at append {number}"
                    assert found.spent == used.cost == COST * 8, where
                    assert found.unknown == used.unknown_cost == MOST * used.unknown_calls, where
                    assert (found.reserved, found.calls, found.waiting) == (0, 8, 0), where
                    assert found.spent + found.unknown <= found.usd, where
                    assert 8 <= len(CALLS) <= 8 + used.unknown_calls, where
        assert number > 8

    run(main)


def test_appends_that_are_refused_for_a_while_settle_once(place: Place) -> None:
    async def main() -> None:
        refusing: list[Refusing] = []

        def wrap(inner: Any) -> Refusing:
            refusing.append(Refusing(inner, lambda number: number % 3 == 1))
            return refusing[0]

        async with place.engine(wrap) as engine:
            await rich(engine)
            found = await account(engine, "large", "r")
            assert (found.spent, found.reserved, found.unknown) == (COST * 8, 0, 0)
        assert refusing[0].refused > 3

    run(main)


def test_a_worker_that_dies_while_it_asks_leaves_nothing_reserved(place: Place) -> None:
    async def main() -> None:
        engine = place.engine()
        await engine.__aenter__()
        worker = engine._worker
        assert worker is not None
        reserve = worker.steps.purse._store.reserve
        asked = asyncio.Event()

        async def reserves_and_dies(*args: Any, **options: Any) -> Any:
            await reserve(*args, **options)
            asked.set()
            await asyncio.get_running_loop().create_future()

        worker.steps.purse._store.reserve = reserves_and_dies  # type: ignore[method-assign]
        await engine.start(research(), id="r", key="r")
        await asked.wait()
        worker.steps.purse._store.reserve = reserve  # type: ignore[method-assign]
        await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            assert len(await rich(engine)) == 7
            assert (await engine.get("r").usage()).unknown_calls == 0

            async def settled() -> bool:
                found = await account(engine, "large", "r")
                return bool((found.spent, found.reserved, found.unknown) == (COST * 8, 0, 0))

            await until(settled)

    run(main)
