"""The quotas of a SQLite store. See storage/quotas.py for what is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from perdure.core.quotas import Measured, Quota, QuotaState, Refusal, admit
from perdure.storage.ledger import Query, days_of
from perdure.storage.quotas import bounds_of, decode_quota, encode_quota
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json


class SqliteQuotas:
    """See QuotaStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def set(self, namespace: str, quota: Quota | None) -> None:
        await self._write(_set, namespace, quota)

    async def all(self) -> Mapping[str, QuotaState]:
        found: Mapping[str, QuotaState] = await self._read(_all)
        return found

    async def take(
        self, namespace: str, ids: Sequence[str], *, now: float, measured: Measured | None = None
    ) -> Refusal | None:
        refusal: Refusal | None = await self._write(_take, namespace, ids, now, measured)
        return refusal

    async def live(self, namespace: str) -> int:
        found: int = await self._read(_live, namespace)
        return found

    async def measure(self, namespace: str, *, since: float) -> tuple[int, int]:
        found: tuple[int, int] = await self._read(_measure, namespace, since)
        return found


def _state(db: Database, namespace: str) -> QuotaState | None:
    for (data,) in db.rows("quota", {"namespace": namespace}):
        assert isinstance(data, bytes)
        return decode_quota(data)
    return None


def _keep(db: Database, namespace: str, state: QuotaState) -> None:
    db.run("keep_quota", {"namespace": namespace, "data": encode_quota(state)})


def _set(db: Database, namespace: str, quota: Quota | None) -> None:
    if quota is None:
        db.run("drop_quota", {"namespace": namespace})
        return
    before = _state(db, namespace)
    _keep(
        db, namespace, QuotaState(quota) if before is None else msgspec.structs.replace(before, quota=quota)
    )


def _all(db: Database) -> Mapping[str, QuotaState]:
    return {namespace: decode_quota(data) for namespace, data in db.rows("quotas")}


def _take(
    db: Database, namespace: str, ids: Sequence[str], now: float, measured: Measured | None
) -> Refusal | None:
    state = _state(db, namespace)
    if state is None:
        return None
    before = encode_quota(state)
    if measured is not None:
        state.measured = measured
    asked = [*ids, *state.promised]
    there = frozenset(str(id) for (id,) in db.rows("ids_there", {"ids": as_json(asked)}))
    live = _live(db, namespace) if state.quota.runs is not None else 0
    refusal = admit(state, ids, there, live, now)
    if encode_quota(state) != before:
        _keep(db, namespace, state)
    return refusal


def _live(db: Database, namespace: str) -> int:
    low, high = bounds_of(namespace)
    found = db.value("live_within", {"low": low, "high": high})
    assert isinstance(found, int)
    return found


def _measure(db: Database, namespace: str, since: float) -> tuple[int, int]:
    low, high = bounds_of(namespace)
    within = {"low": low, "high": high}
    events: Any = db.value("events_within", within)
    length: Any = db.value("length_within", within)
    first, _ = days_of(Query(since=since))
    spent: Any = db.value("spent_within", {**within, "since": since, "first": first})
    return int(events * length), spent
