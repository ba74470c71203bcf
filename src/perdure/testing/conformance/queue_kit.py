"""Short ways to fill and empty one queue, for the checks about queues."""

from __future__ import annotations

from perdure.core.queues import QueueSettings
from perdure.storage.records import Claimed
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench

Q = "q"


async def limit(bench: Bench, **limits: object) -> None:
    await bench.store.queues.define(Q, QueueSettings(**limits), now=NOW)  # type: ignore[arg-type]


async def make(bench: Bench, *ids: str, **fields: object) -> None:
    await bench.store.create([bench.new(id, queue=Q, **fields) for id in ids])


async def look(bench: Bench, worker: int, limit: int = 100, now: float = NOW) -> Claimed:
    return await bench.store.claim(worker, workflows=[WORKFLOW], queues=[Q], now=now, limit=limit)


async def claim(bench: Bench, worker: int, limit: int = 100, now: float = NOW) -> list[str]:
    return [row.id for row in (await look(bench, worker, limit, now)).rows]


async def end(bench: Bench, *ids: str) -> None:
    for id in ids:
        await bench.put(await bench.row(id), b"end", status="completed")
