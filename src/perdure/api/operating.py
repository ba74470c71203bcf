"""What operators do with a run, apart from ending it: hold it, let it go on."""

from __future__ import annotations

from typing import Generic, TypeVar

from perdure.api.connection import Connection
from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.errors import RunConflictError, UnknownRunError
from perdure.storage.records import Delivery

R = TypeVar("R")


class Operated(Generic[R]):
    """The part of a handle that operates its run."""

    id: str
    _connection: Connection

    async def pause(self, reason: str | None = None) -> None:
        """Hold the run: from now on it begins nothing; returns once that is durable.

        Steps that execute go on to their end, and their outcomes are recorded. No further attempt begins, and
        timers don't reach the code. When nothing executes any more, the run leaves memory with the status
        `paused`; one that nobody drives is paused at once. Messages queue. Cancelling a paused run lets it go
        on, since its code is to clean up. A run that is paused already stays as it is.

        Args:
            reason: why; people see it in `info()` and the history.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it has ended.

        Example:
            >>> await handle.pause("the bank is down")  # doctest: +SKIP
        """
        now = self._connection.clock()
        self._connection.check()
        event = encode_event(ev.RunPaused(at=now, reason=reason))
        self._wished(
            await self._connection.store.pauses.pause(self.id, event, reason=reason, now=now), "paused"
        )

    async def resume(self) -> None:
        """Let a paused run go on, at once; returns once that is durable.

        Timers that came due meanwhile fire now. A run that isn't paused stays as it is.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it has ended.

        Example:
            >>> await handle.resume()  # doctest: +SKIP
        """
        now = self._connection.clock()
        self._connection.check()
        event = encode_event(ev.RunResumed(at=now))
        self._wished(await self._connection.store.pauses.resume(self.id, event, now=now), "resumed")

    def _wished(self, delivery: Delivery, what: str) -> None:
        if delivery is Delivery.UNKNOWN_RUN:
            msg = f"no run has the id {self.id!r} in this database: look it up with `perdure ls`"
            raise UnknownRunError(msg, run_id=self.id)
        if delivery is Delivery.RUN_ENDED:
            msg = f"run {self.id!r} can't be {what}: it has ended already"
            raise RunConflictError(msg)
        self._connection.nudge()
