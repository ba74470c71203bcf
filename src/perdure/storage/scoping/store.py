"""One namespace of a store, as a store.

What is asked for here by an id is looked for under the namespace's prefix, so nothing else can be reached; what is
asked for by a number, which may have come from anywhere, is first looked up; and lists are asked for within the prefix.
What belongs to another namespace is answered as what doesn't exist, in the same words and by the same reads.

It is the store of clients. The verbs by which runs are driven belong to workers, who drive those of all namespaces, and
what concerns the database as a whole belongs to its operators: both are refused here. A verb that this file and its
siblings don't name doesn't exist here; a test holds them against the protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from perdure.core.namespaces import check_namespace, prefix_for
from perdure.storage.chain import Damage
from perdure.storage.changes import OnChange
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
)
from perdure.storage.scoping.admission import Admission
from perdure.storage.scoping.lists import ScopedEntities, ScopedNamespaces, ScopedSurvey
from perdure.storage.scoping.mine import Mine, of_workers, unknown_keys
from perdure.storage.scoping.money import ScopedBudgets, ScopedLedger, ScopedLimits
from perdure.storage.scoping.records import row_outside, run_within
from perdure.storage.scoping.shared import (
    ScopedDisk,
    ScopedKeys,
    ScopedMoving,
    ScopedQueues,
    ScopedQuotas,
    ScopedResealing,
    ScopedRetention,
    ScopedUnbegun,
)
from perdure.storage.scoping.starting import ScopedPublications, ScopedSchedules
from perdure.storage.scoping.talking import (
    ScopedAttributes,
    ScopedCallbacks,
    ScopedInquiries,
    ScopedPauses,
    ScopedStreams,
    ScopedUpdates,
)
from perdure.storage.scoping.threads import ScopedCheckpoints
from perdure.storage.workers import Heartbeat, WorkerRow


class ScopedStore:
    """One namespace of a store.

    Args:
        inner: the store. It is opened and closed with this one, or by somebody else who shares it.
        namespace: the namespace's name.
        admission: is asked before something is added.

    Raises:
        UsageError: that can't name a namespace.
    """

    def __init__(self, inner: Store, namespace: str, admission: Admission | None = None) -> None:
        self.namespace = check_namespace(namespace)
        self.prefix = prefix = prefix_for(namespace)
        self._inner = inner
        self._admission = admission
        self._mine = mine = Mine(inner, prefix)
        self.callbacks = ScopedCallbacks(inner.callbacks, prefix)
        self.publications = ScopedPublications(inner, self.namespace, admission)
        self.schedules = ScopedSchedules(inner.schedules, prefix)
        self.limits = ScopedLimits(inner.limits)
        self.ledger = ScopedLedger(inner.ledger, prefix, mine)
        self.checkpoints = ScopedCheckpoints(inner.checkpoints, prefix)
        self.budgets = ScopedBudgets(inner.budgets, prefix)
        self.updates = ScopedUpdates(inner.updates, prefix)
        self.pauses = ScopedPauses(inner.pauses, prefix)
        self.survey = ScopedSurvey(inner, prefix, mine)
        self.namespaces = ScopedNamespaces()
        self.entities = ScopedEntities(inner.namespaces, prefix)
        self.unbegun = ScopedUnbegun()
        self.inquiries = ScopedInquiries(inner.inquiries, prefix)
        self.queues = ScopedQueues(inner.queues, prefix, mine)
        self.streams = ScopedStreams(inner.streams, prefix)
        self.disk = ScopedDisk()
        self.resealing = ScopedResealing()
        self.retention = ScopedRetention()
        self.keys = ScopedKeys(inner.keys, prefix)
        self.quotas = ScopedQuotas(inner.quotas, self.namespace)
        self.moving = ScopedMoving(inner.moving)
        self.attributes = ScopedAttributes(inner.attributes, prefix, mine)

    async def open(self, on_change: OnChange | None = None) -> None:
        await self._inner.open(on_change)

    async def close(self) -> None:
        await self._inner.close()

    # -- clients ------------------------------------------------------------------------------------

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        referred = {key for run in runs for key in (run.parent, run.follows) if key is not None}
        if await self._mine.only(sorted(referred)) != sorted(referred):
            raise unknown_keys(len(referred))
        new = [run_within(run, self.prefix) for run in runs]
        if self._admission is not None:
            await self._admission.runs(self.namespace, new)
        created = await self._inner.create(new)
        self._mine.know([made.row for made in created])
        return [msgspec.structs.replace(made, row=row_outside(made.row)) for made in created]

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        return await self._inner.send(self.prefix + id, data, now=now, kind=kind, key=key)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self._inner.terminate(self.prefix + id, event, now=now)

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        rows = await self._inner.get([self.prefix + id for id in ids])
        return [None if row is None else self._seen(row) for row in rows]

    async def generation(self, id: str, number: int) -> RunRow | None:
        row = await self._inner.generation(self.prefix + id, number)
        return None if row is None else self._seen(row)

    async def inbox(self, run: int) -> list[Mail]:
        return await self._inner.inbox(run) if await self._mine.only([run]) else []

    async def find(self, filter: RunFilter) -> list[RunRow]:
        inside = msgspec.structs.replace(filter, within=self.prefix)
        return [self._seen(row) for row in await self._inner.find(inside)]

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        return await self._inner.events(run, after=after, limit=limit) if await self._mine.only([run]) else []

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        if await self._mine.only(runs) != list(runs):
            raise unknown_keys(len(runs))
        return await self._inner.last_event(runs)

    async def load(self, runs: Sequence[int]) -> list[History]:
        mine = await self._mine.only(runs)
        found = dict(zip(mine, await self._inner.load(mine), strict=True)) if mine else {}
        return [found.get(run) or History(run, (), ()) for run in runs]

    async def workers(self) -> list[WorkerRow]:
        """Which code runs where is everybody's to know; how much else it has to do isn't."""
        return [msgspec.structs.replace(row, runs=0, steps=0) for row in await self._inner.workers()]

    def _seen(self, row: RunRow) -> RunRow:
        self._mine.know([row])
        return row_outside(row)

    # -- of workers -----------------------------------------------------------------------------------

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
        of_workers()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        of_workers()

    async def mail(self, worker: int) -> list[Mail]:
        of_workers()

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        of_workers()

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        of_workers()

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        of_workers()

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        of_workers()

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        of_workers()

    async def crowd(self) -> int:
        of_workers()

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        of_workers()

    async def retire(self, worker: int, *, now: float) -> None:
        of_workers()

    async def strand(self, *, now: float) -> int:
        of_workers()
