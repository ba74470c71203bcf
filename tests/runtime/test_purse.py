"""Whoever asks for money and goes away doesn't keep it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.budgets import Want
from perdure.errors import StoreUnavailableError
from perdure.runtime.purse import Purse
from perdure.storage.budgets import Ask

ASK = Ask(run=1, id=7, want=Want("s", 5), epoch=1)


class Store:
    """Grants everything, after having done something."""

    def __init__(self, first: Callable[[], None], refusals: int = 0) -> None:
        self.first = first
        self.refusals = refusals
        self.asked = 0

    async def reserve(self, asks: Any, *, now: float) -> list[bool]:
        self.asked += 1
        self.first()
        if self.asked <= self.refusals:
            raise StoreUnavailableError("the disk is full (a test says so)")
        return [True] * len(asks)


class Books:
    def __init__(self) -> None:
        self.back: list[int] = []

    def give_back(self, attempt: Any, id: int) -> None:
        self.back.append(id)


@pytest.mark.parametrize("later", [False, True], ids=["before the answer", "amid the answer"])
def test_what_was_reserved_for_a_cancelled_attempt_is_given_back(later: bool) -> None:
    async def main() -> None:
        loop, books = asyncio.get_running_loop(), Books()

        def cancels() -> None:
            if later:
                loop.call_soon(task.cancel)
            else:
                task.cancel()

        store: Any = Store(cancels)
        purse = Purse(store, books, loop, time.time)
        task = loop.create_task(purse._ask(ASK, None))  # type: ignore[arg-type]
        with pytest.raises(asyncio.CancelledError):
            await task
        await purse.close()
        assert books.back == [7]

    asyncio.run(main())


def test_a_store_that_fails_is_asked_again_also_for_those_who_have_gone() -> None:
    """It may have reserved, although it couldn't say so."""

    async def main() -> None:
        loop, books = asyncio.get_running_loop(), Books()
        store: Any = Store(lambda: task.cancel(), refusals=2)
        purse = Purse(store, books, loop, time.time)
        task = loop.create_task(purse._ask(ASK, None))  # type: ignore[arg-type]
        with pytest.raises(asyncio.CancelledError):
            await task
        while not books.back:
            await asyncio.sleep(0.01)
        assert (books.back, store.asked) == ([7], 3)

    asyncio.run(main())
