"""What starts runs in one namespace: its schedules, and what is published there."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.namespaces import prefix_for, short
from perdure.storage.protocol import Store
from perdure.storage.publications import Distributed, Pending, Publication, Sealer, Subscription
from perdure.storage.records import NewRun
from perdure.storage.schedules import Due, ScheduleRow, ScheduleStore
from perdure.storage.scoping.admission import Admission
from perdure.storage.scoping.mine import of_operators, of_workers
from perdure.storage.scoping.records import (
    publication_outside,
    publication_within,
    run_within,
    schedule_outside,
    schedule_within,
)


class ScopedPublications:
    """See PublicationStore. Subscriptions are code's, and hold in every namespace."""

    sealer: Sealer | None = None  #: whoever distributes has one, on the store itself

    def __init__(self, inner: Store, namespace: str, admission: Admission | None) -> None:
        self._inner = inner.publications
        self._namespaces = inner.namespaces
        self._namespace = namespace
        self._prefix = prefix_for(namespace)
        self._admission = admission

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        inside = [publication_within(publication, self._prefix) for publication in publications]
        if self._admission is not None:
            await self._admission.publications(self._namespace, inside)
        return await self._inner.publish(inside)

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        of_workers()

    async def unsubscribe(self, workflow: str) -> bool:
        of_operators("Ending a subscription")

    async def subscriptions(self) -> list[Subscription]:
        return await self._inner.subscriptions()

    async def waiting(self) -> list[tuple[str, str, int]]:
        found = await self._namespaces.waiting(self._prefix)
        return [(short(name), condition, count) for name, condition, count in found]

    async def pending(self, *, now: float) -> Pending:
        of_workers()

    async def distribute(self, *, now: float) -> Distributed:
        of_workers()

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        named = None if name is None else self._prefix + name
        found = await self._inner.find(name=named, within=self._prefix, before=before, limit=limit)
        return [publication_outside(publication) for publication in found]

    async def forget(self, *, before: int, limit: int) -> int:
        of_workers()


class ScopedSchedules:
    """See ScheduleStore."""

    def __init__(self, inner: ScheduleStore, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        taken = await self._inner.create(schedule_within(row, self._prefix))
        return None if taken is None else schedule_outside(taken)

    async def get(self, name: str) -> ScheduleRow | None:
        row = await self._inner.get(self._prefix + name)
        return None if row is None else schedule_outside(row)

    async def all(self) -> list[ScheduleRow]:
        rows = await self._inner.all()
        return [schedule_outside(row) for row in rows if row.name.startswith(self._prefix)]

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        prefix = self._prefix
        return await self._inner.change(
            schedule_within(row, prefix),
            runs=[run_within(run, prefix) for run in runs],
            mail=[(prefix + id, event) for id, event in mail],
            now=now,
        )

    async def delete(self, name: str) -> bool:
        return await self._inner.delete(self._prefix + name)

    async def due(self, *, now: float, limit: int) -> Due:
        of_workers()
