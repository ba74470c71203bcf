"""BlobStore: a store around a store that keeps large events as blobs, and leaves references in their histories.

A blob is durable before the append that refers to it begins. Whoever dies in between leaves one that nobody refers to,
which is collected. What is read is compared with its digest: a blob that is missing or isn't what was written blocks
its run, as any other damage of a history does.

Only events of histories become blobs. What is on its way to a run (mail) or aside of it (streams, publications) is held
in the database; it becomes one when the run takes it into its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from perdure.codec.blobrefs import chain_before, decode_ref, encode_ref, is_ref, linked, ref_to
from perdure.storage.blobs.config import Blobs
from perdure.storage.blobs.fetching import fetched
from perdure.storage.blobs.moving import BlobMoving
from perdure.storage.blobs.places import file_of, folder_of, place_of
from perdure.storage.chain import Damage, DamageKind, link, origin
from perdure.storage.changes import OnChange
from perdure.storage.passing import PassesWorkersOn
from perdure.storage.protocol import Store
from perdure.storage.records import (
    Append,
    Appended,
    Claimed,
    Created,
    Delivery,
    History,
    Mail,
    MailKind,
    NewRun,
    RunFilter,
    RunRow,
    Stale,
    Successor,
)

_change = msgspec.structs.replace
_END: Final = b"\n"  # what a chain has behind each event

#: Parts of a store that hold no events of histories.
PARTS: Final = (
    "attributes", "budgets", "callbacks", "checkpoints", "disk", "entities", "inquiries", "keys", "ledger",
    "limits", "namespaces", "pauses", "publications", "queues", "quotas", "resealing", "retention", "schedules",
    "streams", "survey", "unbegun", "updates",
)  # fmt: skip


class BlobStore(PassesWorkersOn):
    """A store that keeps large events elsewhere.

    Args:
        below: where all the rest is kept.
        blobs: where they are, and what is large.
    """

    callbacks: Any
    publications: Any
    schedules: Any
    limits: Any
    quotas: Any
    keys: Any
    ledger: Any
    checkpoints: Any
    disk: Any
    budgets: Any
    updates: Any
    pauses: Any
    survey: Any
    entities: Any
    namespaces: Any
    unbegun: Any
    inquiries: Any
    queues: Any
    streams: Any
    resealing: Any
    retention: Any
    attributes: Any

    def __init__(self, below: Store, blobs: Blobs) -> None:
        self.below = below
        self.blobs = blobs
        self.place = place_of(blobs.url)
        self._above = blobs.above
        for part in PARTS:
            setattr(self, part, getattr(below, part))
        self.moving = BlobMoving(below.moving, self.fetched)

    async def open(self, on_change: OnChange | None = None) -> None:
        await self.below.open(on_change)

    async def close(self) -> None:
        await self.below.close()

    # -- what goes in -------------------------------------------------------------------------------

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        if any(len(run.first_event) > self._above for run in runs):
            runs = [await self._new_run(run) for run in runs]
        return await self.below.create(runs)

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        for append in batch:
            if self._is_large(append):
                return asyncio.ensure_future(self._append_large(batch))
        return self.below.append(batch)

    def _is_large(self, append: Append) -> bool:
        above = self._above
        for event in append.events:
            if len(event) > above:
                return True
        successor = append.successor
        if successor is not None and len(successor.run.first_event) > above:
            return True
        return bool(append.children) and any(len(child.first_event) > above for child in append.children)

    async def _append_large(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        keys = sorted({append.run for append in batch if self._is_large(append)})
        ids = {row.run: row.id for row in await self.below.survey.rows(keys)}
        return await self.below.append([await self._referring(append, ids) for append in batch])

    async def _referring(self, append: Append, ids: dict[int, str]) -> Append:
        id = ids.get(append.run)
        if id is None or not self._is_large(append):
            return append
        events = list(append.events)
        for place, event in enumerate(append.events):
            if len(event) > self._above:
                wanted = append.links[place]
                before = append.links[place - 1] if place else chain_before(wanted, event, _END)
                events[place] = linked(await self._kept(id, event), before, wanted, _END)
        children = [await self._new_run(child) for child in append.children]
        successor = append.successor
        if successor is not None:
            successor = Successor(await self._new_run(_change(successor.run, id=id)))
        return _change(append, events=events, children=children, successor=successor)

    async def _new_run(self, run: NewRun) -> NewRun:
        # A debounced start may come to be another run's, where nobody would look for its blob.
        if len(run.first_event) <= self._above or run.debounce:
            return run
        before = origin(run.id, run.generation)
        reference = await self._kept(run.id, run.first_event)
        return _change(run, first_event=linked(reference, before, link(before, run.first_event), _END))

    async def _kept(self, id: str, event: bytes) -> bytes:
        ref = ref_to(event, folder_of(id))
        await asyncio.to_thread(self.place.put, ref.folder, ref.name, file_of(id, event))
        return encode_ref(ref)

    async def instead(self, id: str, old: bytes, new: bytes) -> bytes:
        """A reference, its link aside, to an event that takes the place of another one, which is a blob as well.

        Whoever has read the reference to the old one is about to fetch that, so it is made young: once nothing refers
        to it, it stays for the whole grace.
        """
        await self._kept(id, old)
        return await self._kept(id, new)

    # -- what comes out -----------------------------------------------------------------------------

    async def load(self, runs: Sequence[int]) -> list[History]:
        found = await self.below.load(runs)
        return [
            await self._whole(history) if any(map(is_ref, history.events)) else history for history in found
        ]

    async def _whole(self, history: History) -> History:
        events, damage = list(history.events), history.damage
        for place, data in enumerate(events):
            if is_ref(data):
                events[place] = await self.fetched(data)
                if damage is None and is_ref(events[place]):
                    damage = _damage(events[place])
        return _change(history, events=events, damage=damage)

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        found = await self.below.events(run, after=after, limit=limit)
        return [(seq, await self.fetched(data) if is_ref(data) else data) for seq, data in found]

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        found = await self.below.last_event(runs)
        for place, data in enumerate(found):
            if isinstance(data, bytes) and is_ref(data):
                fetched = await self.fetched(data)
                found[place] = _damage(fetched) if is_ref(fetched) else fetched
        return found

    async def fetched(self, reference: bytes) -> bytes:
        """The event; or, if it can't be had, a reference that says why."""
        return await asyncio.to_thread(fetched, self.place, self.blobs.url, reference)

    # -- what goes through as it is -----------------------------------------------------------------

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        return await self.below.send(id, data, now=now, kind=kind, key=key)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self.below.terminate(id, event, now=now)

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        return await self.below.get(ids)

    async def generation(self, id: str, number: int) -> RunRow | None:
        return await self.below.generation(id, number)

    async def inbox(self, run: int) -> list[Mail]:
        return await self.below.inbox(run)

    async def find(self, filter: RunFilter) -> list[RunRow]:
        return await self.below.find(filter)

    async def claim(
        self,
        worker: int,
        *,
        workflows: Sequence[str],
        queues: Sequence[str],
        now: float,
        limit: int,
        suspected: float | None = None,
    ) -> Claimed:
        claim = partial(self.below.claim, worker, workflows=workflows, queues=queues)
        return await claim(now=now, limit=limit, suspected=suspected)

    async def mail(self, worker: int) -> list[Mail]:
        return await self.below.mail(worker)


def _damage(reference: bytes) -> Damage:
    ref = decode_ref(reference)
    text = f"an event of {ref.size:,} bytes is kept as blob {ref.path}, which can't be read: {ref.why}"
    return Damage(DamageKind.CONTENT, None, text)
