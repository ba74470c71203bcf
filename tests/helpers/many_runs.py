"""A database with very many runs, quickly: they are started in bulk, and their ends are written by plain SQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import apsw

import perdure
from perdure import workflow

_BATCH = 5_000


@workflow(name="many.order")
async def order(number: int) -> int:
    return number


@workflow(name="many.refund")
async def refund(number: int) -> int:
    return number


def insert_runs(path: Path, count: int) -> None:
    """Make a SQLite database with runs `run-000000` and up, the last one the newest, most of them ended.

    In a process of its own, since whoever drives a browser has an event loop already.
    """
    subprocess.run([sys.executable, __file__, str(path), str(count)], check=True)


def _insert(path: Path, count: int) -> None:
    asyncio.run(_start(path, count))
    connection = apsw.Connection(str(path))
    connection.execute(
        """
        BEGIN IMMEDIATE;
        UPDATE runs SET status = CASE run % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END,
                        started_at = created_at, wake_at = NULL,
                        ended_at = created_at + (run % 1000) / 100.0, updated_at = created_at + (run % 1000) / 100.0
        WHERE run % 20 <> 2;  -- these stay queued
        COMMIT;
        """
    )
    connection.close()


async def _start(path: Path, count: int) -> None:
    async with perdure.Engine(f"sqlite:///{path}", worker=False) as engine:
        for begin in range(0, count, _BATCH):
            numbers = range(begin, min(begin + _BATCH, count))
            await engine.start_many(
                [(refund if number % 10 == 0 else order)(number) for number in numbers],
                ids=[f"run-{number:06}" for number in numbers],
                attributes={"batch": begin // _BATCH, "region": "eu"} if (begin // _BATCH) % 2 else None,
            )


if __name__ == "__main__":
    _insert(Path(sys.argv[1]), int(sys.argv[2]))
