"""Who waits for which run to end.

Runs that end on this worker are reported at once. For the others the store is asked whenever somebody else
has committed something, and every now and then in case no hint came.
"""

from __future__ import annotations

import asyncio
import logging

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import StoreError
from perdure.storage.protocol import Store

logger = logging.getLogger("perdure.results")

Ended = tuple[Status, ev.Event]


class Results:
    """The futures of everyone who waits for a run's end."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._waiters: dict[str, list[asyncio.Future[Ended]]] = {}
        self._check: asyncio.Task[None] | None = None
        self._again = False

    def wait(self, id: str) -> asyncio.Future[Ended]:
        """A future for how this run ends. `forget` it when it isn't needed any more."""
        future: asyncio.Future[Ended] = self._loop.create_future()
        self._waiters.setdefault(id, []).append(future)
        return future

    def forget(self, id: str, future: asyncio.Future[Ended]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._waiters.get(id)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiters[id]

    def ended(self, id: str, status: Status, event: ev.Event) -> None:
        """A run has ended, and that is durable."""
        for future in self._waiters.pop(id, ()):
            if not future.done():
                future.set_result((status, event))

    def check_soon(self) -> None:
        """Ask the store whether any of the awaited runs has ended elsewhere."""
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
                ids = list(self._waiters)
                rows = [
                    row for row in await self._store.get(ids) if row is not None and Status(row.status).final
                ]
                events = await self._store.last_event([row.run for row in rows]) if rows else []
                for row, data in zip(rows, events, strict=True):
                    self.ended(row.id, Status(row.status), decode_event(data))
                if not self._again:
                    return
        except StoreError as error:
            logger.warning("couldn't look for results, will try again: %s", error)
        finally:
            self._check = None

    def close(self, error: BaseException) -> None:
        """Nobody will be told any more: every waiter gets `error`."""
        if self._check is not None:
            self._check.cancel()
        for waiting in list(self._waiters.values()):
            for future in list(waiting):
                if not future.done():
                    future.set_exception(error)
        self._waiters.clear()
