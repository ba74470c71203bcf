"""Cutting connections to a PostgreSQL server, from the server's side."""

from __future__ import annotations

import asyncio
import random

import psycopg

#: Only the engine's own ones, in this database, of this user.
_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = 'perdure'
  AND pid <> pg_backend_pid()
ORDER BY random() LIMIT %s
"""


class Backends:
    """The server's processes that serve the engine's connections.

    Attributes:
        cuts: how many of them were ended.
    """

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url = url
        self._chance = chance
        self.cuts = 0

    async def cut(self) -> None:
        """End some of them, as a restart of the server or a broken network would."""
        number = self._chance.randint(1, 4)
        self.cuts += await asyncio.to_thread(self._cut, number)

    def _cut(self, number: int) -> int:
        try:
            with psycopg.connect(
                self._url, autocommit=True, application_name="perdure torture"
            ) as connection:
                return len(connection.execute(_CUT, (number,)).fetchall())
        except psycopg.Error:
            return 0  # not allowed, or not there at the moment
