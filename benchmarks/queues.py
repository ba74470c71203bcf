"""How long a claim takes with few and with very many runs in line.

Usage: python -m benchmarks.queues [--postgres URL] [--sizes 1000,100000,1000000]

The lines are filled by plain SQL, since that isn't what is measured; each run in them is due. Of every claim the run is
ended before the next one, so that a slot is free. Figures are of whole claims with their commits, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.storage.chain import links
from perdure.storage.protocol import Store
from perdure.storage.records import Append
from perdure.storage.urls import store_for
from perdure.storage.workers import WorkerRow

CLAIMS = 60
BATCH = 200
SIZES = (1_000, 100_000, 1_000_000)

#: By name: the limits, and how many keys and priorities the runs in line have.
QUEUES: dict[str, tuple[QueueSettings, int, int]] = {
    "no limits": (QueueSettings(), 1, 1),
    "concurrency": (QueueSettings(concurrency=1000), 1, 1),
    "concurrency, rate, 10 priorities": (
        QueueSettings(concurrency=1000, rate=Rate(10**6, per=1), priority=True),
        1,
        10,
    ),
    "1 per key, a tenth of the line has one key": (QueueSettings(concurrency=1000, per_key=1), 0, 1),
    "fair, as many keys as a tenth of the line": (QueueSettings(concurrency=1000, fairness="key"), -10, 1),
}

_COLUMNS = """run, id, workflow, status, queue, fingerprint, seq, chain, epoch, created_at, updated_at, wake_at,
    semantics, on_parent_close, key, priority, lane, rank"""


def _columns(queue: str, base: int, size: int, blob: str) -> str:
    """The columns of the run with the number n, as SQL. Queues are named by their kinds."""
    settings, keys, priorities = QUEUES[queue]
    if keys == 0:  # one key for the tenth that comes first, and others for the rest
        key = f"CASE WHEN n <= {size // 10} THEN 'big' ELSE 'k' || (n / 10) END"
    elif keys < 0:
        key = f"'k' || (n / {-keys})"
    else:
        key = f"'k' || (n % {keys})"
    priority = f"(n % {priorities})"
    lane, rank = key if settings.keyed else "''", priority if settings.priority else "0"
    if not settings.limited:
        lane = rank = "NULL"
    return f"""{base} + n, '{queue}-' || ({base} + n), 'w', 'queued', '{queue} {size}', {blob}, 1, 0, 0, 1.0, 1.0,
        1.0 + n * 0.000001, 1, 'cancel', {key}, {priority}, {lane}, {rank}"""


def _fill_sqlite(path: str, queue: str, base: int, size: int) -> None:
    import apsw

    connection = apsw.Connection(path)
    columns = _columns(queue, base, size, "x''")
    connection.execute(
        f"""
        BEGIN IMMEDIATE;
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size})
        INSERT INTO runs ({_COLUMNS}) SELECT {columns} FROM numbers;
        COMMIT;
        """
    )
    connection.close()


def _fill_postgres(url: str, queue: str, base: int, size: int) -> None:
    import psycopg

    columns = _columns(queue, base, size, "''::bytea")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"INSERT INTO perdure.runs ({_COLUMNS}) SELECT {columns} FROM generate_series(1, {size}) AS n".encode()
        )
        connection.execute(
            f"INSERT INTO perdure.ids (id, run) SELECT id, run FROM perdure.runs WHERE run > {base}".encode()
        )
        connection.execute("ANALYZE perdure.runs")


async def _measure(store: Store, queue: str) -> dict[str, float]:
    """Latencies of claims of one run, and of a batch."""
    now = time.time()
    row = WorkerRow(0, "bench", "host", os.getpid(), 0, now, now + 3600, [queue], ["w"])
    worker = await store.register(row, now=now)
    figures: dict[str, list[float]] = {"one": [], "batch": []}
    for name, limit, times in (("one", 1, CLAIMS), ("batch", BATCH, 3)):
        for _ in range(times):
            begun = time.perf_counter()
            claimed = await store.claim(worker, workflows=["w"], queues=[queue], now=time.time(), limit=limit)
            figures[name].append((time.perf_counter() - begun) * 1000)
            assert claimed.rows, "somebody is in line, and slots are free"
            await store.append(
                [
                    Append(
                        row.run,
                        row.seq,
                        row.epoch,
                        number,
                        [b"end"],
                        time.time(),
                        links(row.chain, [b"end"]),
                        status="completed",
                    )
                    for number, row in enumerate(claimed.rows, time.time_ns() & (2**62 - 1))
                ]
            )
    await store.retire(worker, now=time.time())
    ones = sorted(figures["one"])
    return {
        "one p50": statistics.median(ones),
        "one p95": ones[int(len(ones) * 0.95)],
        f"{BATCH} p50": statistics.median(figures["batch"]),
    }


async def _bench(kind: str, url: str, fill: Callable[[str, int, int], None], sizes: Sequence[int]) -> None:
    store = store_for(url)
    await store.open()
    try:
        print(f"\n{kind}\n{'':45}" + "".join(f"{size:>30,}" for size in sizes))
        base = int(time.time() * 1000) << 20
        for name, (settings, _, _) in QUEUES.items():
            told: list[str] = []
            for size in sizes:
                queue = f"{name} {size}"
                if settings.limited:
                    await store.queues.define(queue, settings, now=time.time())
                fill(name, base, size)
                base += size + 1
                found = await _measure(store, queue)
                told.append(" / ".join(f"{value:.2f}" for value in found.values()))
            print(f"{name:45}" + "".join(f"{text:>30}" for text in told), flush=True)
    finally:
        await store.close()


async def main() -> None:
    """Measure, and print a table: median and 95th percentile of a claim of one run, median of one of many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", metavar="URL", help="measure there, too; the database must be empty")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="how many runs stand in line")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    print(f"claims in ms: of one run p50 / p95, of {BATCH} runs p50, by runs in line")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.db")
        await _bench("SQLite", f"sqlite:///{path}", lambda *made: _fill_sqlite(path, *made), sizes)
    if arguments.postgres:
        url = arguments.postgres
        await _bench("PostgreSQL", url, lambda *made: _fill_postgres(url, *made), sizes)


if __name__ == "__main__":
    asyncio.run(main())
