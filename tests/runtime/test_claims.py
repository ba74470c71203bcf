"""Claims: what becomes due while one is under way isn't forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.errors import StoreUnavailableError
from perdure.runtime import claims
from perdure.runtime.capacity import Share
from perdure.runtime.claims import Claims
from perdure.runtime.timers import Timers
from perdure.storage.records import Claimed


class Store:
    """One whose claims take until they are let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.let_go = asyncio.Semaphore(0)
        self.errors: list[Exception] = []
        self.waits = False

    async def claim(self, worker: int, **how: Any) -> Claimed:
        self.begun += 1
        await self.let_go.acquire()
        if self.errors:
            raise self.errors.pop()
        return Claimed([], None, self.waits)


class Capacity:
    queues: Sequence[str] = ("default",)
    short = False

    def hear(self, freed: Callable[[], None]) -> None:
        pass

    def shares(self, limit: int) -> list[Share]:
        return [Share(["w"], limit)]


def claiming(test: Callable[[Claims, Store], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        store: Any = Store()
        clock = asyncio.get_running_loop().time
        residency: Any = SimpleNamespace(room=lambda: 1000, make_room=lambda _: None, drivers={})
        capacity: Any = Capacity()

        async def take(*args: Any) -> None:
            pass

        tested = Claims(
            store,
            clock,
            Timers(asyncio.get_running_loop(), clock),
            residency,
            lambda: 1,
            capacity,
            take=take,
            taken=lambda: None,
            spread=lambda: 0.0,
        )
        task = asyncio.ensure_future(tested.run())
        await test(tested, store)
        tested.stop()
        for _ in range(9):
            store.let_go.release()
        await asyncio.wait_for(task, 30)

    asyncio.run(main())


async def begins(store: Store, number: int) -> None:
    """Wait for this claim."""
    async with asyncio.timeout(30):
        while store.begun < number:
            await asyncio.sleep(0.001)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_poke_amid_a_claim_leads_to_another_one() -> None:
    """The claim may have looked before that became due of which the poke tells."""

    async def test(tested: Claims, store: Store) -> None:
        tested.poke()
        await begins(store, 1)
        tested.poke()
        tested.poke()
        store.let_go.release()
        await begins(store, 2)
        store.let_go.release()
        await turns()
        assert store.begun == 2

    claiming(test)


def test_a_claim_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RETRY_AFTER", 0.001)

    async def test(tested: Claims, store: Store) -> None:
        store.errors = [StoreUnavailableError("a test says so")]
        tested.poke()
        store.let_go.release()
        await begins(store, 2)

    claiming(test)


def test_a_slot_that_was_freed_amid_a_claim_is_looked_for_again() -> None:
    """The claim has counted slots perhaps before the run ended."""

    async def test(tested: Claims, store: Store) -> None:
        store.waits = True
        tested.poke()
        await begins(store, 1)
        tested.freed()
        store.let_go.release()
        await begins(store, 2)

    claiming(test)
