"""on_change: how a store learns that somebody else has committed something."""

from __future__ import annotations

import asyncio

from perdure.testing.conformance.bench import NOW, Bench, Check

#: More than any store needs to notice, or to be sure that it hasn't noticed anything.
_PATIENCE = 5.0
_QUIET = 0.1


async def others_changes_are_noticed(bench: Bench) -> None:
    """Each store object on the database is told of the other's, again and again."""
    told = asyncio.Event()
    await bench.another(told.set)
    await asyncio.sleep(_QUIET)
    for n in range(3):
        told.clear()
        await bench.make(f"r{n}")
        await asyncio.wait_for(told.wait(), _PATIENCE)


async def what_was_told_of_can_be_seen(bench: Bench) -> None:
    told = asyncio.Event()
    other = await bench.another(told.set)
    await asyncio.sleep(_QUIET)
    told.clear()
    await bench.make("r")
    await asyncio.wait_for(told.wait(), _PATIENCE)
    (row,) = await other.get(["r"])
    assert row is not None


async def own_changes_are_not_news(bench: Bench) -> None:
    """Nor is looking, nor a claim that finds nothing."""
    calls: list[int] = []
    store = await bench.another(lambda: calls.append(1))
    worker = await bench.worker()
    await asyncio.sleep(_QUIET)
    calls.clear()
    await store.create([bench.new("r", owner=worker)])
    row = await bench.row("r")
    await store.append([bench.change(row, b"x")])
    await store.send("r", b"hello", now=NOW)
    await bench.claim(worker)
    await bench.store.strand(now=NOW)
    await bench.store.mail(worker)
    await asyncio.sleep(_QUIET)
    assert calls == []


async def news_are_told_together(bench: Bench) -> None:
    """Many changes of one turn of the loop make few calls."""
    calls: list[int] = []
    await bench.another(lambda: calls.append(1))
    await bench.make("r")
    await asyncio.sleep(_QUIET)
    calls.clear()
    await asyncio.gather(*(bench.store.send("r", b"%d" % n, now=NOW) for n in range(100)))
    await asyncio.sleep(_QUIET)
    assert 1 <= len(calls) <= 20


CHECKS: tuple[Check, ...] = (
    others_changes_are_noticed,
    what_was_told_of_can_be_seen,
    own_changes_are_not_news,
    news_are_told_together,
)
