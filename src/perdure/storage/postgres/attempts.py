"""Sees each transaction through: restarts, failovers, deadlocks and lost replies.

What fails before its COMMIT was sent has not happened, and is done again. A COMMIT without a reply may or may
not have happened, and may even still be happening on the server. Therefore a transaction whose repeat would do
harm leaves a mark, its number under this store's random name, as its first statement. The repeat begins by
leaving the same mark: PostgreSQL makes that wait for the first transaction's end, and then tells whether it
came through. Appends need no mark; they recognise themselves by their attempt number.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.trouble import Remedy, remedy, translate

logger = logging.getLogger("perdure.postgres")

R = TypeVar("R")

#: How long a transaction is tried again while the server is away, in seconds; then its caller is told.
PATIENCE = 30.0
_PAUSE_FIRST = 0.02
_PAUSE_MAX = 1.0
#: Longest wait for one of the pool's connections, in seconds. One that is asked again tries to connect anew.
_POOL_PATIENCE = 2.0


class Attempts:
    """Runs transactions on connections of a pool.

    Args:
        where: the database's name for messages.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], queries: Mapping[str, str], where: str) -> None:
        self._pool = pool
        self._queries = queries
        self._where = where
        self._writer = secrets.randbits(63)
        self._numbers = itertools.count(1)
        self._prepares = True
        self._weeding: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Let the pool be closed after this."""
        if self._weeding is not None:
            await asyncio.wait([self._weeding], timeout=_POOL_PATIENCE)
            self._weeding.cancel()

    async def read(self, verb: Callable[..., Awaitable[R]], *args: Any) -> R:
        """One or more statements without a transaction; they change nothing."""

        async def attempt(connection: psycopg.AsyncConnection[Any], again: bool) -> R:
            return await verb(Database(connection, self._queries), *args)

        return await self._persist(attempt)

    async def write(self, verb: Callable[..., Awaitable[R]], *args: Any, marked: bool = True) -> R:
        """One transaction, which happens once.

        Args:
            verb: called with the database and `args`, perhaps several times; its answer is the one of the
                attempt that came through.
            marked: a repeat must not do it again. False for what recognises its own repeat.

        Raises:
            StoreUnavailableError: it has not happened (or, after long trouble, nobody can know).
        """
        number = next(self._numbers) if marked else 0
        committing = False
        answer: Any = None

        async def attempt(connection: psycopg.AsyncConnection[Any], again: bool) -> R:
            nonlocal committing, answer
            db = Database(connection, self._queries)
            await db.begin()
            try:
                if marked:
                    fresh = await db.run("mark_commit", writer=self._writer, number=number)
                    if not fresh:
                        await db.roll_back()
                        assert committing, "a mark is left by a commit"
                        logger.info("a commit had come through, though its reply was lost")
                        return answer  # type: ignore[no-any-return]
                answer = await verb(db, *args)
                committing = True
                await db.commit()
            except BaseException:
                if not connection.closed:
                    await _quietly(db.roll_back())
                raise
            return answer  # type: ignore[no-any-return]

        return await self._persist(attempt)

    async def alone(self, query: str, bindings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """One statement that is its own transaction, and recognises its own repeat."""

        async def attempt(connection: psycopg.AsyncConnection[Any], again: bool) -> list[tuple[Any, ...]]:
            return await Database(connection, self._queries).rows(query, **bindings)

        return await self._persist(attempt)

    async def _persist(self, attempt: Callable[[psycopg.AsyncConnection[Any], bool], Awaitable[R]]) -> R:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + PATIENCE
        pause = _PAUSE_FIRST
        again = False
        while True:
            try:
                left = max(0.1, give_up - loop.time())
                async with self._pool.connection(timeout=min(left, _POOL_PATIENCE)) as connection:
                    if not self._prepares:
                        connection.prepare_threshold = None
                    return await attempt(connection, again)
            except (psycopg.Error, PoolTimeout) as error:
                what = remedy(error)
                if what is Remedy.NONE or loop.time() >= give_up:
                    raise translate(error, self._where) from error
                if what is Remedy.UNPREPARE:
                    logger.info("prepared statements don't get through to %s: going without", self._where)
                    self._prepares = False
                elif what is Remedy.RECONNECT:
                    logger.warning("%s is out of reach, will try again: %s", self._where, error)
                    self._weed_out()
                again = True
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the herd
            pause = min(pause * 2, _PAUSE_MAX)

    def _weed_out(self) -> None:
        """Where one connection is gone the others may be, too: each would cost an attempt, and a longer pause."""
        if self._weeding is None or self._weeding.done():
            self._weeding = asyncio.get_running_loop().create_task(self._check_pool())

    async def _check_pool(self) -> None:
        try:
            await self._pool.check()
        except (psycopg.Error, PoolTimeout, PoolClosed) as error:
            logger.debug("couldn't check the connections: %s", error)


async def _quietly(ending: Awaitable[None]) -> None:
    try:
        await ending
    except psycopg.Error:
        pass  # the connection is gone, and the transaction with it
