"""Connections to MCP servers, which live in the worker's process and nowhere else.

A connection is opened by the first step that needs it and kept for those that follow, since to start a server may take
longer than to ask it. Nothing in a history depends on it: after a crash, or when a server has died, the next step
opens another. Each connection has a task of its own, which opens and closes it, as the clients want it; steps only
borrow what is in it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

#: Seconds that a connection is kept without being used.
KEEP = 60.0


class Connections:
    """The connections to one server, one for each event loop that uses it.

    Args:
        opening: makes what, entered, is a connection.
        keep: seconds that one is kept without being used.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Any]], keep: float = KEEP) -> None:
        self._opening = opening
        self._keep = keep
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, Connection] = WeakKeyDictionary()

    async def use(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Do something with the connection. One with which something fails isn't used again."""
        loop = asyncio.get_running_loop()
        connection = self._open.get(loop)
        if connection is None or connection.over:
            connection = self._open[loop] = Connection(self._opening, self._keep)
        return await connection.use(call)

    async def close(self) -> None:
        """Close the connection of this event loop, if there is one."""
        connection = self._open.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.close()


class Connection:
    """One connection, open from its first use until it fails or is idle for too long.

    Attributes:
        over: it isn't to be used any more.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Any]], keep: float) -> None:
        loop = asyncio.get_running_loop()
        self.over = False
        self._keep = keep
        self._users = 0
        self._changed = asyncio.Event()
        self._session: asyncio.Future[Any] = loop.create_future()
        self._session.add_done_callback(_looked_at)
        # Not in the context of the step that happens to be the first.
        self._owner = loop.create_task(self._own(opening), context=contextvars.Context())

    async def use(self, call: Callable[[Any], Awaitable[T]]) -> T:
        self._users += 1
        try:
            return await call(await asyncio.shield(self._session))
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.over = True
            raise
        finally:
            self._users -= 1
            self._changed.set()

    async def close(self) -> None:
        self.over = True
        self._changed.set()
        await asyncio.wait([self._owner])

    async def _own(self, opening: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        try:
            async with opening() as session:
                self._session.set_result(session)
                while not await self._idle():
                    pass
        except Exception as error:  # told to whoever wants to use it; a failing close is nobody's  # noqa: BLE001
            if not self._session.done():
                self._session.set_exception(error)
        finally:
            self.over = True
            self._session.cancel()

    async def _idle(self) -> bool:
        """Wait for a change, or for too long without one; whether it is time to close."""
        self._changed.clear()
        if self.over and self._users == 0:
            return True
        try:
            async with asyncio.timeout(None if self._users or self.over else self._keep):
                await self._changed.wait()
        except TimeoutError:
            self.over = self._users == 0
        return self.over and self._users == 0


def _looked_at(session: asyncio.Future[Any]) -> None:
    if not session.cancelled():
        session.exception()
