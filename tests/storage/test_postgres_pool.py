"""The pool's connections: of those that are idle, the one that was used last is taken first."""

from __future__ import annotations

import asyncio

from helpers.postgres import new_database
from perdure.storage.postgres.connection import make_pool


def test_the_connection_that_was_used_last_is_taken_first() -> None:
    """Others are colder: each is a process of the server, with memory of its own."""

    async def main() -> None:
        async with make_pool(new_database(), prepares=True) as pool:
            first, second, third = [await pool.getconn() for _ in range(3)]
            for connection in (first, third, second):
                await pool.putconn(connection)
            for _ in range(2):
                async with pool.connection() as connection:
                    assert connection is second
            async with pool.connection(), pool.connection() as connection:
                assert connection is third

    asyncio.run(main())
