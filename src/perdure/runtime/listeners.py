"""Who reads streams as they grow: wakes those who wait for more.

What is committed in this process is told by run; of what others commit only the hint comes that there was
something. Losing a hint costs no more than a poll's pause, since nobody waits longer than that.
"""

from __future__ import annotations

import asyncio

from perdure.core.namespaces import prefix_of, short

#: Seconds after which a reader looks without having been told.
POLL_EVERY = 1.0


class Listeners:
    """The readers of one engine that have read everything there was."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self.others: dict[str, Listeners] = {}  #: of those who see a namespace, by its prefix

    def expect(self, id: str) -> asyncio.Future[None]:
        """A future for more of this run's. Take it before looking, so that nothing is missed; then `wait`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(future)
        return future

    async def wait(self, id: str, future: asyncio.Future[None]) -> None:
        """Wait until there may be more, but not longer than a poll's pause."""
        try:
            await asyncio.wait([future], timeout=POLL_EVERY)
        finally:
            self.forget(id, future)

    def forget(self, id: str, future: asyncio.Future[None]) -> None:
        """It isn't waited for."""
        waiting = self._waiting.get(id)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[id]

    def changed(self, id: str) -> None:
        """There may be more of this run."""
        for future in self._waiting.pop(id, ()):
            if not future.done():
                future.set_result(None)
        if self.others and (other := self.others.get(prefix_of(id))) is not None:
            other.changed(short(id))

    def all_changed(self) -> None:
        """There may be more of any run: somebody else has committed something, or the engine closes."""
        for id in list(self._waiting):
            self.changed(id)
        for other in self.others.values():
            other.all_changed()
