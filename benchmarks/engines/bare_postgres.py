"""PostgreSQL without an engine: the best that one client can do, one statement and one commit in one round trip."""

from __future__ import annotations

import os

import psycopg

from benchmarks.engines.bare_sqlite import BATCH, EVENT
from benchmarks.engines.measuring import Figures, Sizes, main, rate, stopwatch

Connection = psycopg.Connection[tuple[object, ...]]


def connect(url: str) -> Connection:
    """With a table, and everything prepared at once."""
    connection = psycopg.connect(url, autocommit=True)
    connection.prepare_threshold = 0
    connection.execute("CREATE TABLE raw_events (run bigint, seq bigint, data bytea, PRIMARY KEY (run, seq))")
    return connection


def insert(connection: Connection, first: int, number: int, data: bytes) -> float:
    """Commits a second, of one row each."""
    with stopwatch() as seconds:
        for seq in range(first, first + number):
            connection.execute("INSERT INTO raw_events VALUES (1, %s, %b)", (seq, data))
    return number / seconds()


def _commits(url: str, number: int, size: int) -> float:
    with connect(url) as connection:
        data = os.urandom(size)
        insert(connection, 0, 20, data)
        return insert(connection, 20, number, data)


def sequential(url: str, sizes: Sizes) -> Figures:
    """A commit of one small row for each step."""
    return {"steps_per_s": _commits(url, sizes["steps"], EVENT)}


def payloads(url: str, sizes: Sizes) -> Figures:
    """A commit of one large row for each step."""
    return {"steps_per_s": _commits(url, sizes["steps"], sizes["bytes"])}


def many(url: str, sizes: Sizes) -> Figures:
    """The rows of many runs' steps, a thousand in each statement, which is a commit."""
    data = os.urandom(EVENT)
    runs, steps = sizes["runs"], sizes["steps"]
    with connect(url) as connection, stopwatch() as seconds:
        for seq in range(steps):
            for first in range(0, runs, BATCH):
                keys = list(range(first, min(first + BATCH, runs)))
                connection.execute(
                    "INSERT INTO raw_events SELECT run, %s, %b FROM unnest(%s::bigint[]) AS run",
                    (seq, data, keys),
                )
    return rate(runs * steps, seconds())


if __name__ == "__main__":
    main(sequential, payloads, many)
