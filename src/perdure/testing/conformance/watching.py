"""on_change: how a store learns that somebody else has committed something."""

from __future__ import annotations

import asyncio

from perdure.storage.changes import Change
from perdure.testing.conformance.bench import NOW, Bench, Check

#: More than any store needs to notice, or to be sure that it hasn't noticed anything.
_PATIENCE = 5.0
_QUIET = 0.1


async def others_changes_are_noticed(bench: Bench) -> None:
    """Each store object on the database is told of the other's, again and again."""
    told = asyncio.Event()
    await bench.another(lambda _: told.set())
    await asyncio.sleep(_QUIET)
    for n in range(3):
        told.clear()
        await bench.make(f"r{n}")
        await asyncio.wait_for(told.wait(), _PATIENCE)


async def what_was_told_of_can_be_seen(bench: Bench) -> None:
    told = asyncio.Event()
    other = await bench.another(lambda _: told.set())
    await asyncio.sleep(_QUIET)
    told.clear()
    await bench.make("r")
    await asyncio.wait_for(told.wait(), _PATIENCE)
    (row,) = await other.get(["r"])
    assert row is not None


async def own_changes_are_not_news(bench: Bench) -> None:
    """Nor is looking, nor a claim that finds nothing."""
    calls: list[int] = []
    store = await bench.another(lambda _: calls.append(1))
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
    await bench.another(lambda _: calls.append(1))
    await bench.make("r")
    await asyncio.sleep(_QUIET)
    calls.clear()
    await asyncio.gather(*(bench.store.send("r", b"%d" % n, now=NOW) for n in range(100)))
    await asyncio.sleep(_QUIET)
    assert 1 <= len(calls) <= 20


class _Ear:
    """A listener that keeps what it has heard of since it was asked last, all in one."""

    def __init__(self) -> None:
        self._change: Change | None = None
        self._told = asyncio.Event()

    def __call__(self, change: Change) -> None:
        self._change = change.beside(self._change)
        self._told.set()

    def forget(self) -> None:
        self._change = None
        self._told.clear()

    async def heard(self) -> Change:
        await asyncio.wait_for(self._told.wait(), _PATIENCE)
        await asyncio.sleep(_QUIET)
        assert self._change is not None
        return self._change


async def an_end_with_consequences_is_no_mere_end(bench: Bench) -> None:
    """Whoever is told of ends alone needn't look for mail, nor for runs that are due."""
    ear = _Ear()
    await bench.another(ear)
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    mother = await bench.make("mother", owner=worker)
    await bench.make("with mail", owner=worker)
    child = bench.new("child", owner=worker, parent=parent.run, parent_op="c#1")
    live = bench.new("live", owner=worker, parent=mother.run, parent_op="c#1")
    await bench.put(parent, b"x", children=(child,))
    await bench.put(mother, b"x", children=(live,))
    await bench.store.send("with mail", b"hello", now=NOW)
    await asyncio.sleep(_QUIET)
    for append in (
        bench.change(await bench.row("child"), b"end", status="completed", parent_mail=b"mail"),
        bench.change(await bench.row("mother"), b"end", status="completed"),
        bench.change(await bench.row("with mail"), b"end", status="completed"),
        bench.change(await bench.row("parent"), b"y", release=True, wake_at=NOW),
    ):
        ear.forget()
        await bench.store.append([append])
        assert await ear.heard() is Change.ANYTHING, append


async def ends_that_concern_no_other_run_are_told(bench: Bench) -> None:
    """As what they are, or as anything by a store that can't know."""
    ear = _Ear()
    await bench.another(ear)
    worker = await bench.worker()
    rows = [await bench.make(f"r{n}", owner=worker) for n in range(3)]
    await asyncio.sleep(_QUIET)
    ear.forget()
    await bench.store.append([bench.change(row, b"end", status="completed") for row in rows])
    await ear.heard()


CHECKS: tuple[Check, ...] = (
    others_changes_are_noticed,
    what_was_told_of_can_be_seen,
    own_changes_are_not_news,
    news_are_told_together,
    an_end_with_consequences_is_no_mere_end,
    ends_that_concern_no_other_run_are_told,
)
