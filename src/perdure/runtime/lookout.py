"""Waiting for what somebody else will put into the store: the ends of runs, answers to updates and inquiries.

What happens in this process is told at once. For the rest the store is asked whenever somebody has committed
something, and every now and then in case no hint came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from perdure.errors import StoreError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

logger = logging.getLogger("perdure.lookout")


class Lookout(Generic[K, V]):
    """The futures of everyone who waits for a value by its key.

    Args:
        look: asks the store for values; for each key its value, None while there is none.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, look: Callable[[list[K]], Awaitable[Sequence[V | None]]]
    ) -> None:
        self._loop = loop
        self._look = look
        self._waiters: dict[K, list[asyncio.Future[V]]] = {}
        self._check: asyncio.Task[None] | None = None
        self._again = False
        self.others: list[Lookout[Any, Any]] = []  #: of those who see a namespace of the same store

    def wait(self, key: K) -> asyncio.Future[V]:
        """A future for the value. `forget` it when it isn't needed any more."""
        future: asyncio.Future[V] = self._loop.create_future()
        self._waiters.setdefault(key, []).append(future)
        return future

    def forget(self, key: K, future: asyncio.Future[V]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._waiters.get(key)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiters[key]

    def found(self, key: K, value: V) -> None:
        """The value is there, and that is durable."""
        for future in self._waiters.pop(key, ()):
            if not future.done():
                future.set_result(value)

    def check_soon(self) -> None:
        """Ask the store for everything that is waited for."""
        for other in self.others:
            other.check_soon()
        if not self._waiters:
            return
        if self._check is None:
            self._check = self._loop.create_task(self._ask())
        else:
            self._again = True

    async def _ask(self) -> None:
        try:
            while True:
                self._again = False
                keys = list(self._waiters)
                for key, value in zip(keys, await self._look(keys), strict=True):
                    if value is not None:
                        self.found(key, value)
                if not self._again:
                    return
        except StoreError as error:
            logger.warning("couldn't look for what is waited for, will try again: %s", error)
        finally:
            self._check = None

    def close(self, error: BaseException) -> None:
        """Nobody will be told any more: every waiter gets `error`."""
        if self._check is not None:
            self._check.cancel()
        for other in self.others:
            other.close(error)
        for waiting in list(self._waiters.values()):
            for future in list(waiting):
                if not future.done():
                    future.set_exception(error)
        self._waiters.clear()
