"""A connection as the verbs see it: queries by name, answers as plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from psycopg import AsyncConnection

Row: TypeAlias = tuple[Any, ...]

#: Longest pause between two statements of a transaction, in seconds. A process that is stopped amid one keeps its
#: locks, and its connection stays up: nobody could take its runs over, or even write to them, until it goes on.
PAUSE_MAX = 3

_BEGIN = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{PAUSE_MAX}s'".encode()
_TAKE_TIME = b"SET LOCAL idle_in_transaction_session_timeout = '10min'"


class Database:
    """Runs named queries on one connection.

    Args:
        connection: in autocommit mode; transactions are begun and ended by name here.
        queries: the statements by name.
    """

    def __init__(self, connection: AsyncConnection[Any], queries: Mapping[str, str]) -> None:
        self.connection = connection
        self.queries = queries

    async def run(self, query: str, **bindings: Any) -> int:
        """Run a statement; returns how many rows it changed."""
        cursor = await self.connection.execute(self.queries[query].encode(), bindings, binary=True)
        return cursor.rowcount

    async def many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement without rows once for each of these bindings."""
        if rows:
            async with self.connection.cursor() as cursor:
                await cursor.executemany(self.queries[query].encode(), rows)

    async def rows(self, query: str, **bindings: Any) -> list[Row]:
        cursor = await self.connection.execute(self.queries[query].encode(), bindings, binary=True)
        return await cursor.fetchall()

    async def value(self, query: str, **bindings: Any) -> Any:
        """The one column of the one row; None if there is no row."""
        found = await self.rows(query, **bindings)
        return found[0][0] if found else None

    async def begin(self) -> None:
        """Begin a transaction, which the server ends if this process stops in the middle of it."""
        await self.connection.execute(_BEGIN, prepare=False)

    async def take_time(self) -> None:
        """Let this transaction compute for minutes between two statements."""
        await self.connection.execute(_TAKE_TIME)

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def roll_back(self) -> None:
        await self.connection.execute("ROLLBACK")
