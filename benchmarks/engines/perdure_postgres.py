"""Perdure on PostgreSQL beside bare commits."""

from __future__ import annotations

import asyncio
import os

import psycopg
import psycopg.sql

import perdure
from benchmarks.engines.bare_postgres import connect, insert
from benchmarks.engines.bare_sqlite import EVENT
from benchmarks.engines.measuring import Figures, Sizes, main, shares, stopwatch
from benchmarks.engines.with_perdure import count


def beside_raw(url: str, sizes: Sizes) -> Figures:
    """One run's steps and bare commits take turns: the disk drifts faster than rounds change.

    A run is so long that its start and its end, a dozen statements, count little.

    The bare loop is the best that a client can do: one statement and one commit in one round trip, prepared, of a row
    of the same size.
    """
    steps = sizes["steps"]

    async def work() -> Figures:
        pairs = []
        async with perdure.Engine(url) as engine:
            with connect(url) as connection:
                data = os.urandom(EVENT)
                insert(connection, 0, 50, data)
                await engine.run(count(50))
                for number in range(1, sizes["slices"] + 1):
                    limit = insert(connection, number * 1_000_000, steps, data)
                    with stopwatch() as seconds:
                        await engine.run(count(steps))
                    pairs.append((limit, steps / seconds()))
        return shares(pairs)

    return asyncio.run(work())


def beside_raw_slower(url: str, sizes: Sizes) -> Figures:
    """The same with a server that waits so long before each sync."""
    with psycopg.connect(url, autocommit=True) as connection:
        database = psycopg.sql.Identifier(connection.info.dbname)
        for name, value in (("commit_delay", sizes["slower_us"]), ("commit_siblings", 0)):  # of new sessions
            setting = psycopg.sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(
                setting.format(database, psycopg.sql.Identifier(name), psycopg.sql.Literal(value))
            )
    return beside_raw(url, sizes)


if __name__ == "__main__":
    main(beside_raw, beside_raw_slower)
