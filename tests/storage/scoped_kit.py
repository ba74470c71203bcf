"""A namespace's store that can drive, too, so that the checks of every store can be run on it.

What a client does goes through the scoped store as it is; what a worker does is done as the runtime does it for the
runs of a namespace: on the store itself, with what the mappings of storage/scoping make of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from perdure.core.namespaces import short
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Claimed, Stale
from perdure.storage.scoping import records as mapping
from perdure.storage.scoping.store import ScopedStore

NAMESPACE = "a.b-c_9"

#: Verbs of a part of a store that are its workers' and operators', and need no mapping.
_PLAIN = {
    "publications": {"subscribe", "unsubscribe", "pending", "distribute", "forget"},
    "limits": {"turn", "all"},
    "queues": {"define", "change", "counts", "held", "all"},
    "streams": {"emit", "unsettled", "supersede"},
    "budgets": {"define"},
    "inquiries": {"waiting", "answer", "answers", "forget"},
    "unbegun": {"mail", "missed", "end"},
}


class _Part:
    """A part of a scoped store, with the verbs of workers."""

    def __init__(self, scoped: Any, inner: Any, plain: set[str], **mapped: Callable[..., Any]) -> None:
        self._scoped, self._inner, self._plain, self._mapped = scoped, inner, plain, mapped

    def __getattr__(self, name: str) -> Any:
        if name in self._mapped:
            return self._mapped[name]
        return getattr(self._inner if name in self._plain else self._scoped, name)


class DrivingStore(ScopedStore):
    """One namespace of a store, for a worker that drives no other."""

    def __init__(self, inner: Store, namespace: str = NAMESPACE) -> None:
        super().__init__(inner, namespace)
        self.inner = inner
        for name, plain in _PLAIN.items():
            setattr(self, name, _Part(getattr(self, name), getattr(inner, name), plain))
        self.schedules: Any = _Part(self.schedules, inner.schedules, set(), due=self._due)
        self.ledger: Any = _Part(self.ledger, inner.ledger, set(), book=self._book)
        self.inquiries: Any = _Part(self.inquiries, inner.inquiries, _PLAIN["inquiries"], take=self._take)
        self.moving: Any = _Part(
            self.moving, inner.moving, {"begin", "give_up"}, stamps=self._stamps, read=self._read
        )

    async def claim(self, worker: int, **options: Any) -> Claimed:  # type: ignore[override]
        claimed = await self.inner.claim(worker, **options)
        rows = [mapping.row_outside(row) for row in claimed.rows]
        return msgspec.structs.replace(claimed, rows=rows)

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        return self.inner.append([self._within(append) for append in batch])

    def _within(self, append: Append) -> Append:
        successor = append.successor
        if successor is not None:
            successor = msgspec.structs.replace(successor, run=mapping.run_within(successor.run, self.prefix))
        return msgspec.structs.replace(
            append,
            children=[mapping.run_within(child, self.prefix) for child in append.children],
            effects=mapping.effects_within(append.effects, self.prefix),
            successor=successor,
        )

    async def _due(self, **options: Any) -> Any:
        due = await self.inner.schedules.due(**options)
        return msgspec.structs.replace(due, rows=[mapping.schedule_outside(row) for row in due.rows])

    async def _book(self, run: int, book: Any) -> None:
        (inside,) = mapping.effects_within([book], self.prefix)
        await self.inner.ledger.book(run, inside)  # type: ignore[arg-type]

    async def _take(self, *args: Any, **options: Any) -> Any:
        taken = await self.inner.inquiries.take(*args, **options)
        return [msgspec.structs.replace(item, run_id=short(item.run_id)) for item in taken]

    async def _stamps(self) -> Any:
        stamps = await self.inner.moving.stamps()
        return [msgspec.structs.replace(stamp, id=short(stamp.id)) for stamp in stamps]

    async def _read(self, ids: Sequence[str]) -> Any:
        return await self.inner.moving.read([self.prefix + id for id in ids])


def _passed_on(name: str) -> Callable[..., Any]:
    async def verb(self: DrivingStore, *args: Any, **options: Any) -> Any:
        return await getattr(self.inner, name)(*args, **options)

    return verb


for _name in (
    "mail", "owned", "register", "heartbeat", "announce", "suspects", "crowd", "bury", "retire", "strand", "workers",
):  # fmt: skip
    setattr(DrivingStore, _name, _passed_on(_name))
