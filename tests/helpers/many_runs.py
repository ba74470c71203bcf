"""A database with very many runs, quickly: they are started in bulk, and their ends are written by plain SQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

import perdure
from perdure import workflow

_BATCH = 5_000


@workflow(name="shop.order")
async def order(number: int) -> int:
    return number


@workflow(name="shop.refund")
async def refund(number: int) -> int:
    return number


def insert_runs(path: Path, count: int) -> None:
    """Make a SQLite database with runs `run-000000` and up, the last one the newest, most of them ended.

    A process without an event loop of its own calls this.
    """
    asyncio.run(_start(path, count))
    connection = apsw.Connection(str(path))
    connection.execute(
        """
        BEGIN IMMEDIATE;
        UPDATE runs SET status = CASE run % 20 WHEN 0 THEN 'failed' WHEN 1 THEN 'waiting' WHEN 2 THEN 'cancelled'
                                 ELSE 'completed' END,
                        wake_at = NULL, started_at = created_at
        WHERE run % 20 <> 3;
        UPDATE runs SET ended_at = created_at + (run % 1000) / 100.0, updated_at = created_at + (run % 1000) / 100.0
        WHERE status IN ('failed', 'cancelled', 'completed');
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
