"""The quotas of a memory store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from perdure.core.namespaces import prefix_for
from perdure.core.quotas import Measured, Quota, QuotaState, Refusal, admit
from perdure.storage.ledger import DAY, FIGURES
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.quotas import bounds_of, decode_quota, encode_quota


class MemoryQuotas:
    """See QuotaStore.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def set(self, namespace: str, quota: Quota | None) -> None:
        quotas = self._database().quotas
        before = quotas.pop(namespace, None)
        if quota is not None:
            quotas[namespace] = (
                QuotaState(quota) if before is None else msgspec.structs.replace(before, quota=quota)
            )

    async def all(self) -> Mapping[str, QuotaState]:
        quotas = self._database().quotas
        return {name: decode_quota(encode_quota(quotas[name])) for name in sorted(quotas)}

    async def take(
        self, namespace: str, ids: Sequence[str], *, now: float, measured: Measured | None = None
    ) -> Refusal | None:
        db = self._database()
        state = db.quotas.get(namespace)
        if state is None:
            return None
        if measured is not None:
            state.measured = measured
        there = frozenset(id for id in [*ids, *state.promised] if id in db.keys)
        return admit(state, ids, there, await self.live(namespace), now)

    async def live(self, namespace: str) -> int:
        return sum(not run.ended for run in self._within(namespace))

    async def measure(self, namespace: str, *, since: float) -> tuple[int, int]:
        db = self._database()
        runs = list(self._within(namespace))
        size = sum(len(data) for run in runs for data in run.events)
        entries = [entry for run in runs for entry in db.usage.get(run.run, {}).values() if not entry.counted]
        spent = sum(entry.cost or 0 for entry in entries if entry.at >= since and entry.state != "reused")
        for (_, (within, day, *_, state)), figures in db.usage_totals.items():
            if within == prefix_for(namespace) and day * DAY >= since and state != "reused":
                spent += figures[FIGURES.index("cost")]
        return size, spent

    def _within(self, namespace: str) -> Iterator[Run]:
        low, high = bounds_of(namespace)
        return (run for run in self._database().runs.values() if low <= run.id < high)
