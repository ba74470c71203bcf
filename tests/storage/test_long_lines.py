"""What a claim reads doesn't grow with the number of runs in line, counted in each database's own measure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from helpers.postgres import lent_database
from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.storage.postgres.connection import QUERIES as POSTGRES
from perdure.storage.sqlite import verbs
from perdure.storage.sqlite.connection import open_database
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.queues import _define
from perdure.storage.urls import store_for
from perdure.storage.workers import WorkerRow

SHORT, LONG = 500, 20_000
BIG = "CASE WHEN n <= {half} THEN 'big' ELSE 'k' || (n / 2) END"

#: Limits, and the key, priority, lane and rank of the run number n.
LINES: dict[str, tuple[QueueSettings, str, str, str, str]] = {
    "concurrency": (QueueSettings(concurrency=10), "NULL", "0", "''", "0"),
    "priority": (QueueSettings(priority=True, rate=Rate(10, per=1)), "NULL", "n % 7", "''", "n % 7"),
    "key": (QueueSettings(per_key=1, concurrency=10), BIG, "0", BIG, "0"),
    "fair": (QueueSettings(fairness="key", concurrency=10), BIG, "n % 3", BIG, "0"),
    "fair_with_priority": (
        QueueSettings(fairness="key", priority=True, concurrency=10), BIG, "n % 3", BIG, "n % 3",
    ),
    "later": (QueueSettings(concurrency=10), "NULL", "0", "''", "-2000000000"),
}  # fmt: skip

COLUMNS = """run, id, workflow, status, queue, fingerprint, seq, chain, epoch, created_at, updated_at, wake_at,
    semantics, on_parent_close, key, priority, lane, rank"""


def values(kind: str, size: int, base: int, blob: str) -> str:
    _, key, priority, lane, rank = LINES[kind]
    wake_at = f"n / {float(size)}" if kind != "later" else f"n / {float(size)} + 100.0"
    text = f"""{base} + n, '{kind}{size}-' || n, 'w', 'queued', '{kind}{size}', {blob}, 1, 0, 0, 0.0, 0.0, {wake_at}, 1,
        'cancel', {key}, {priority}, {lane}, {rank}"""
    return text.format(half=size // 2)


# -- SQLite ---------------------------------------------------------------------------------------------


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_database(str(tmp_path / "test.db"))
    yield db
    db.close()


def steps_of_a_claim(db: Database, worker: int, queue: str) -> tuple[int, int]:
    """Operations of SQLite's machine, in tens, and how many runs were claimed."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    db.connection.set_progress_handler(count, 10)
    claimed = verbs.claim(db, worker, ["w", "v"], [queue], 50.0, 5)
    db.connection.set_progress_handler(None)
    return steps, len(claimed.rows)


@pytest.mark.parametrize("kind", LINES)
def test_sqlite_reads_what_it_admits(db: Database, kind: str) -> None:
    db.connection.execute("BEGIN")
    row = WorkerRow(0, "w", "h", 1, 2, 0.0, 1e12, ["q"], ["w", "v"], "v1", "c1")
    worker = verbs.register(db, row, 0.0, 1)
    for base, size in ((0, SHORT), (10**6, LONG)):
        _define(db, f"{kind}{size}", LINES[kind][0], 0.0)
        db.connection.execute(
            f"""
            WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {size})
            INSERT INTO runs ({COLUMNS}) SELECT {values(kind, size, base, "x''")} FROM c
            """
        )
    (short, few), (long, many) = [steps_of_a_claim(db, worker, f"{kind}{size}") for size in (SHORT, LONG)]
    db.connection.execute("COMMIT")
    assert few == many == (0 if kind == "later" else 1 if kind == "priority" else 5)
    assert long < 1.5 * short + 100


# -- PostgreSQL -----------------------------------------------------------------------------------------


def test_postgres_reads_what_it_admits() -> None:
    """Pages that the statements of a claim touch."""
    with lent_database() as url:

        async def register() -> int:
            store = store_for(url)
            await store.open()
            for kind, (settings, *_) in LINES.items():
                for size in (SHORT, LONG):
                    await store.queues.define(f"{kind}{size}", settings, now=0.0)
            row = WorkerRow(0, "w", "h", 1, 2, 0.0, 1e12, ["q"], ["w", "v"], "v1", "c1")
            worker = await store.register(row, now=0.0)
            await store.close()
            return worker

        worker = asyncio.run(register())
        with psycopg.connect(url, autocommit=True) as connection:
            base = 0
            for kind in LINES:
                for size in (SHORT, LONG):
                    columns = values(kind, size, base, "''::bytea")
                    numbers = f"generate_series(1, {size}) AS n"
                    statement = f"INSERT INTO perdure.runs ({COLUMNS}) SELECT {columns} FROM {numbers}"
                    connection.execute(statement.encode())
                    base += 10**6
            connection.execute("VACUUM ANALYZE perdure.runs")
            for kind in LINES:
                short, long = (pages(connection, f"{kind}{size}", worker) for size in (SHORT, LONG))
                for query, number in long.items():
                    assert number < 2 * short[query] + 60, (kind, query, short[query], number)


def pages(connection: psycopg.Connection[Any], queue: str, worker: int) -> dict[str, int]:
    """How many pages each statement touches."""
    many = {
        "queues": [queue],
        "workflows": ["w", "v"],
        "worker": worker,
        "now": 50.0,
        "limit": 5,
        "window": 100,
    }
    one = {"queue": queue, "workflow": "w", "workflows": ["w", "v"], "rank": 0, "limit": 16}
    asked = {
        "due": many,
        "next_at": many,
        "lines": many,
        "enter_lines": many,
        "next_in_lines": many,
        "stranded_in_line": many,
        "line": one,
        "line_levels": one,
        "line_lanes": {**one, "after": "k1"},
        "line_lanes_upto": {**one, "upto": "k2"},
        "line_firsts": {**one, "lanes": ["big", "k5"], "numbers": [3, 1]},
        "slots": one,
        "slots_here": {**many, "queue": queue},
    }
    return {query: _pages(connection, POSTGRES[query], bindings) for query, bindings in asked.items()}


def _pages(connection: psycopg.Connection[Any], statement: str, bindings: dict[str, Any]) -> int:
    found = connection.execute(("EXPLAIN (ANALYZE, BUFFERS) " + statement).encode(), bindings)
    lines = [row[0] for row in found.fetchall()]
    touched = next((line for line in lines if "Buffers:" in line), "")  # the first is the sum of all
    return sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", touched))
