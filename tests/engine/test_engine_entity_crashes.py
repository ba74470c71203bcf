"""A crash at any append of an entity or of a workflow that calls one: every call happens once, and wholly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, history, run
from entity_kit import Cart, Counts, OutOfStock, shops

import perdure
from perdure import Engine, events


async def calls(engine: Engine) -> list[Any]:
    """What a client does, which repeats it with the same keys until it has its answers."""
    done: list[Any] = []
    for number, item in enumerate(("apple", "fig", "kiwi")):
        cart: Any = engine.entity(Cart, "u", key=f"add-{number}")
        done.append(await cart.add(item))
    with suppress(OutOfStock):
        refused: Any = engine.entity(Cart, "u", key="refuse")
        await refused.refuse("snake")
    again: Any = engine.entity(Cart, "u", key="twice")
    done.append(len(await again.twice("ab")))
    counts = [engine.entity(Counts, "all", key=f"count-{number}") for number in range(4)]
    done.append(sorted(await asyncio.gather(*(one.count("x") for one in counts))))
    cart = engine.entity(Cart, "u")
    return [*done, (await cart.items())[:3], await cart.total()]


async def from_a_workflow(engine: Engine) -> list[Any]:
    handle = await engine.start(shops("u"), id="s")
    cart: Any = engine.entity(Cart, "u")
    return [await handle.result(), await cart.items(), await cart.total()]


async def checked(engine: Engine) -> None:
    """No call is there twice, and none ran beside another."""
    for id in ("entity_kit.Cart/u", "counts/all"):
        going: list[str] = []
        seen: set[str] = set()
        with suppress(perdure.UnknownRunError):
            for event in await history(engine.get(id)):
                if isinstance(event, events.UpdateAccepted):
                    assert not going
                    assert event.update not in seen
                    seen.add(event.update)
                    going.append(event.update)
                elif isinstance(event, events.UpdateCompleted):
                    assert going == [event.op]
                    going.clear()
            assert await engine.get(id).status() != "blocked"


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("story", [calls, from_a_workflow], ids=["client", "workflow"])
def test_a_crash_at_any_append_changes_nothing(
    story: Callable[[Engine], Any], commits: bool, make_place: Places
) -> None:
    async def main() -> None:
        async with make_place().engine() as engine:
            expected = await story(engine)
        number, died = 0, True
        while died:
            number += make_place.stride
            found, died = await disturbed(make_place(), story, number, commits)
            assert found == expected, f"died at append {number}"
        assert number > 10

    async def bounded() -> None:
        async with asyncio.timeout(200):
            await main()

    asyncio.run(bounded())


async def disturbed(
    place: Place, story: Callable[[Engine], Any], dies_at: int, commits: bool
) -> tuple[Any, bool]:
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, Ledger()))
    await engine.__aenter__()
    store: Any = engine._store
    store._settled = lambda settled, batch, dies: store.dead.set() if dies else None
    telling = asyncio.ensure_future(story(engine))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([telling, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    telling.cancel()
    dying.cancel()
    await asyncio.gather(telling, dying, return_exceptions=True)
    await crash(engine)
    await bury(place)
    async with place.engine() as after:
        found = await story(after)
        await checked(after)
    return found, died


def test_an_evicted_call_goes_on(place: Place) -> None:
    """A call that waits leaves memory and comes back in the middle, after its checkpoint."""

    async def main() -> None:
        async with place.engine(evict_after=0.02) as engine:
            cart: Any = engine.entity(Slow, "u")
            assert await cart.wait(0.0) == 1
            assert await cart.wait(1.3) == 2
            assert await cart.wait(0.0) == 3

    run(main)


@perdure.entity
class Slow:
    state: list[int]

    async def wait(self, seconds: float) -> int:
        self.state.append(1)
        await asyncio.sleep(seconds)
        return len(self.state)
