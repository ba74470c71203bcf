"""The quotas of a PostgreSQL store. See storage/quotas.py for what is promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perdure.core.quotas import Measured, Quota, QuotaState, Refusal, admit
from perdure.storage.ledger import Query, days_of
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways
from perdure.storage.quotas import bounds_of, decode_quota, encode_quota


class PostgresQuotas:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def set(self, namespace: str, quota: Quota | None) -> None:
        await self._ways.write(_set, namespace, quota)

    async def all(self) -> Mapping[str, QuotaState]:
        return await self._ways.read(_all)

    async def take(
        self, namespace: str, ids: Sequence[str], *, now: float, measured: Measured | None = None
    ) -> Refusal | None:
        return await self._ways.write(_take, namespace, ids, now, measured)

    async def live(self, namespace: str) -> int:
        return await self._ways.read(_live, namespace)

    async def measure(self, namespace: str, *, since: float) -> tuple[int, int]:
        return await self._ways.read(_measure, namespace, since)


async def _state(db: Database, namespace: str) -> QuotaState | None:
    for (data,) in await db.rows("quota", namespace=namespace):
        return decode_quota(bytes(data))
    return None


async def _keep(db: Database, namespace: str, state: QuotaState) -> None:
    await db.run("keep_quota", namespace=namespace, data=encode_quota(state))


async def _set(db: Database, namespace: str, quota: Quota | None) -> None:
    if quota is None:
        await db.run("drop_quota", namespace=namespace)
        return
    before = await _state(db, namespace)
    after = QuotaState(quota) if before is None else msgspec.structs.replace(before, quota=quota)
    await _keep(db, namespace, after)


async def _all(db: Database) -> Mapping[str, QuotaState]:
    return {namespace: decode_quota(bytes(data)) for namespace, data in await db.rows("quotas")}


async def _take(
    db: Database, namespace: str, ids: Sequence[str], now: float, measured: Measured | None
) -> Refusal | None:
    state = await _state(db, namespace)
    if state is None:
        return None
    before = encode_quota(state)
    if measured is not None:
        state.measured = measured
    there = frozenset(str(id) for (id,) in await db.rows("ids_there", ids=[*ids, *state.promised]))
    live = await _live(db, namespace) if state.quota.runs is not None else 0
    refusal = admit(state, ids, there, live, now)
    if encode_quota(state) != before:
        await _keep(db, namespace, state)
    return refusal


async def _live(db: Database, namespace: str) -> int:
    low, high = bounds_of(namespace)
    found: int = await db.value("live_within", low=low, high=high)
    return found


async def _measure(db: Database, namespace: str, since: float) -> tuple[int, int]:
    low, high = bounds_of(namespace)
    mark = low.removesuffix("/")
    events: Any = await db.value("events_within", mark=mark)
    length: Any = await db.value("length_within", mark=mark)
    first, _ = days_of(Query(since=since))
    spent: Any = await db.value("spent_within", low=low, high=high, since=float(since), first=first)
    return int(events * length), spent
