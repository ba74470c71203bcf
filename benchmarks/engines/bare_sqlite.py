"""SQLite without an engine: what the disk gives, with the settings that Perdure uses and SQLite's own checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from benchmarks.engines.measuring import Figures, Sizes, main, rate, stopwatch

BATCH = 1000
#: Bytes of one event of a small step: what Perdure writes for one.
EVENT = 150


def _connect(folder: str) -> apsw.Connection:
    connection = apsw.Connection(str(Path(folder) / "raw.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=1000")  # apsw's default, too; without it the log only grows
    connection.execute(
        "CREATE TABLE events (run INTEGER, seq INTEGER, data BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID"
    )
    return connection


def _commits(folder: str, number: int, size: int) -> float:
    """Commits a second, of one row each."""
    connection = _connect(folder)
    data = os.urandom(size)
    with stopwatch() as seconds:
        for seq in range(number):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO events VALUES (1, ?, ?)", (seq, data))
            connection.execute("COMMIT")
    connection.close()
    return number / seconds()


def sequential(folder: str, sizes: Sizes) -> Figures:
    """A commit of one small row for each step."""
    return {"steps_per_s": _commits(folder, sizes["steps"], EVENT)}


def payloads(folder: str, sizes: Sizes) -> Figures:
    """A commit of one large row for each step."""
    return {"steps_per_s": _commits(folder, sizes["steps"], sizes["bytes"])}


def many(folder: str, sizes: Sizes) -> Figures:
    """The rows of many runs' steps, a thousand in each commit."""
    connection = _connect(folder)
    data = os.urandom(EVENT)
    runs, steps = sizes["runs"], sizes["steps"]
    with stopwatch() as seconds:
        for seq in range(steps):
            for first in range(0, runs, BATCH):
                rows = ((run, seq, data) for run in range(first, min(first + BATCH, runs)))
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")
    connection.close()
    return rate(runs * steps, seconds())


if __name__ == "__main__":
    main(sequential, payloads, many)
