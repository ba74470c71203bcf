"""What a check works with: stores on one database, and short ways to make runs, workers and appends."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from perdure.storage.chain import links
from perdure.storage.changes import OnChange
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, NewRun, RunRow, Stale
from perdure.storage.workers import WorkerRow

#: The moment at which most checks happen, wall-clock seconds.
NOW = 1_700_000_000.25
WORKFLOW = "shop.orders.handle"
QUEUE = "default"
LEASE = NOW + 15


class Bench:
    """A database under test; `store` is one open store on it."""

    store: Store

    def __init__(self, factory: Callable[[], Store]) -> None:
        self._factory = factory
        self._stores: list[Store] = []
        self._attempts = itertools.count(1 << 62)
        self.sound = True  # whether all histories are to be what was recorded, in the end

    async def open(self) -> None:
        self.store = await self.another()

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    async def another(self, on_change: OnChange | None = None) -> Store:
        """One more open store on the same database."""
        store = self._factory()
        await store.open(on_change)
        self._stores.append(store)
        return store

    # -- things to put in ---------------------------------------------------------------------------

    def new(self, id: str, **fields: Any) -> NewRun:
        """A run to create, due at once."""
        given: dict[str, Any] = {
            "workflow": WORKFLOW,
            "fingerprint": b"\x00fingerprint\xff",
            "first_event": b"first",
            "queue": QUEUE,
            "created_at": NOW,
            "wake_at": NOW,
        }
        return NewRun(id=id, **{**given, **fields})

    def next_attempt(self) -> int:
        return next(self._attempts)

    def change(self, row: RunRow, *events: bytes, **fields: Any) -> Append:
        """An append to a run as it stands in `row`."""
        given: dict[str, Any] = {
            "expected": row.seq,
            "epoch": row.epoch,
            "attempt": self.next_attempt(),
            "now": NOW + 1,
            "links": links(row.chain, events),
        }
        return Append(run=row.run, events=events, **{**given, **fields})

    def worker_row(self, **fields: Any) -> WorkerRow:
        given: dict[str, Any] = {
            "id": 0,
            "name": "w",
            "host": "host",
            "pid": 1234,
            "born": 5678,
            "started_at": NOW,
            "lease_until": LEASE,
            "queues": [QUEUE],
            "workflows": [WORKFLOW],
        }
        return WorkerRow(**{**given, **fields})

    # -- verbs in short -----------------------------------------------------------------------------

    async def worker(self, **fields: Any) -> int:
        """The id of a new worker."""
        return await self.store.register(self.worker_row(**fields), now=NOW)

    async def make(self, id: str, **fields: Any) -> RunRow:
        """The row of a new run."""
        (created,) = await self.store.create([self.new(id, **fields)])
        assert created.new
        return created.row

    async def row(self, id: str) -> RunRow:
        (row,) = await self.store.get([id])
        assert row is not None
        return row

    async def append(self, row: RunRow, *events: bytes, **fields: Any) -> Appended | Stale:
        (answer,) = await self.store.append([self.change(row, *events, **fields)])
        return answer

    async def put(self, row: RunRow, *events: bytes, **fields: Any) -> RunRow:
        """Append, which must succeed; returns the row after it."""
        answer = await self.append(row, *events, **fields)
        assert isinstance(answer, Appended), answer
        return await self.row(row.id)

    async def prove(self) -> None:
        """Whatever has written to the histories of this database, they are what was recorded."""
        if not self.sound:
            return
        store = await self.another()
        ids = [stamp.id for stamp in await store.moving.stamps()]
        for package in await store.moving.read(ids):
            assert package is not None
            assert not (found := package.damage()), (package.id, found)

    async def history(self, row: RunRow) -> Sequence[bytes]:
        (history,) = await self.store.load([row.run])
        return history.events

    async def inbox(self, row: RunRow) -> list[bytes]:
        (history,) = await self.store.load([row.run])
        return [item.data for item in history.mail]

    async def claim(self, worker: int, **fields: Any) -> list[RunRow]:
        given: dict[str, Any] = {"workflows": [WORKFLOW], "queues": [QUEUE], "now": NOW, "limit": 100}
        claimed = await self.store.claim(worker, **{**given, **fields})
        return list(claimed.rows)

    async def next_at(self, worker: int, **fields: Any) -> float | None:
        """When the next run is due, as a claim that takes nothing is told."""
        given: dict[str, Any] = {"workflows": [WORKFLOW], "queues": [QUEUE], "now": 0.0, "limit": 1}
        return (await self.store.claim(worker, **{**given, **fields})).next_at


Check: TypeAlias = Callable[[Bench], Awaitable[None]]
