"""Tells other stores of changes that concern them, and hears of theirs.

A hint is a NOTIFY of its own, sent after the commit and never inside an append's transaction, where it would take a
lock that all of the server's committers share. Hints within a few milliseconds are one. Losing any of them, or all
(a pooler in transaction mode lets none through), only costs latency: workers look by themselves every second.

A hint names its sender and then, unless that is anything, what has changed: `3f... ends`. To workers of before this is
a name that isn't theirs; what they send, and what isn't known here, means anything.

Each hint makes every other store look, so the work that hints make grows with the square of the fleet. Therefore the
first change after a while is told at once, and further ones the more rarely the more workers there are; a large
fleet finds most of what happens by looking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from perdure.storage.changes import Change, OnChange

logger = logging.getLogger("perdure.postgres")

CHANNEL = "perdure"
#: Hints of so many seconds are sent as one.
COALESCE = 0.003
#: How often a second hints may be heard, by all workers of a fleet together.
HEARD_MAX = 4_000.0
#: Seconds at least between two hints of one store, and at most.
GAP_MIN, GAP_MAX = 0.01, 600.0
_RECONNECT = 1.0
#: How often a hint is tried to be sent: as often as losing a connection, and then the one in its place, is likely.
_TRIES = 3
_PATIENCE = 2.0


class Hints:
    """Sends and hears hints.

    Args:
        conninfo: for a connection of its own to listen on.
        heard: called, coalesced, with what other stores have changed.

    Attributes:
        sent: hints sent so far.
        gap: seconds from one hint to the next.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        conninfo: str,
        loop: asyncio.AbstractEventLoop,
        heard: OnChange | None,
    ) -> None:
        self._pool = pool
        self._conninfo = conninfo
        self._loop = loop
        self._heard = heard
        self._name = secrets.token_hex(8)
        self._due: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._listens: asyncio.Future[None] | None = None
        self._closed = False
        self._unsent: Change | None = None
        self._untold: Change | None = None
        self._sent_at = -GAP_MAX
        self.sent = 0
        self.gap = GAP_MIN

    def spread(self, workers: int) -> None:
        """So many hear each hint."""
        self.gap = min(GAP_MAX, max(GAP_MIN, workers * workers / HEARD_MAX))

    async def open(self) -> None:
        """Listen, from when this returns on, if hints get through at all."""
        if self._heard is not None:
            self._listens = self._loop.create_future()
            self._listening = self._loop.create_task(self._listen())
            await asyncio.wait([self._listens], timeout=_PATIENCE)

    async def close(self) -> None:
        """Send what is due, and stop."""
        self._closed = True
        if self._due is not None:
            self._due.cancel()
            await self._notify(self._taken())
        for task in (self._sending, self._listening):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def changed(self, change: Change = Change.ANYTHING) -> None:
        """Something was committed that concerns others."""
        self._unsent = change.beside(self._unsent)
        self._plan()

    def _plan(self) -> None:
        if self._due is None and not self._closed:
            wait = max(COALESCE, self._sent_at + self.gap - self._loop.time())
            self._due = self._loop.call_later(wait, self._send)

    def _send(self) -> None:
        self._due = None
        self._sent_at = self._loop.time()
        if self._sending is not None and not self._sending.done():
            self._plan()  # one at a time
            return
        self._sending = self._loop.create_task(self._notify(self._taken()))

    def _taken(self) -> str:
        """What is to be sent now."""
        change, self._unsent = self._unsent, None
        return f"{self._name} {change}" if change is Change.ENDS else self._name

    async def _notify(self, hint: str) -> None:
        self.sent += 1
        for _ in range(_TRIES):  # a connection that was cut is only known by using it
            try:
                async with self._pool.connection(timeout=1.0) as connection:
                    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, hint))
                return
            except PoolTimeout:
                return  # others look by themselves in a second
            except psycopg.Error:
                continue

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    if self._listens is not None and not self._listens.done():
                        self._listens.set_result(None)
                    self._hear(Change.ANYTHING)  # of what was missed meanwhile
                    async for notice in connection.notifies():
                        name, _, what = notice.payload.partition(" ")
                        if name != self._name:
                            self._hear(Change.ENDS if what == Change.ENDS else Change.ANYTHING)
            except psycopg.Error as error:
                logger.debug("not listening for hints: %s", error)
            await asyncio.sleep(_RECONNECT)

    def _hear(self, change: Change) -> None:
        if self._untold is None:
            self._loop.call_soon(self._tell)
        self._untold = change.beside(self._untold)

    def _tell(self) -> None:
        change, self._untold = self._untold, None
        if change is not None and self._heard is not None and not self._closed:
            self._heard(change)
