"""Quotas from outside: `engine.quotas`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from perdure.api.connection import Connection
from perdure.core.namespaces import check_namespace
from perdure.core.quotas import Quota, QuotaState, period
from perdure.core.rates import MICRO, room
from perdure.errors import UsageError
from perdure.runtime.quotas import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaInfo:
    """A namespace's quota and what is used of it, from `engine.quotas`.

    Attributes:
        quota: how much it may have.
        runs: how many of its runs are live.
        starts: how many may be started at this moment; None without a rate.
        starts_at: when the next may be; None without a rate.
        storage: bytes of its histories, estimated; None without a limit for that.
        usd: what its calls have cost in this period; None without a limit for that.
        renews_at: when the next period begins; None if there is none.
    """

    namespace: str
    quota: Quota
    runs: int
    starts: int | None = None
    starts_at: datetime | None = None
    storage: int | None = None
    usd: float | None = None
    renews_at: datetime | None = None


class Quotas:
    """How much each namespace may have, as `engine.quotas`. What is set here holds for all who start runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[QuotaInfo]:
        """The quotas of all namespaces that have one, with what is used of them."""
        found = await self._connection.store.quotas.all()
        return [await self._info(namespace, state) for namespace, state in found.items()]

    async def get(self, namespace: str) -> QuotaInfo | None:
        """One namespace's quota; None if it has none."""
        found = await self._connection.store.quotas.all()
        state = found.get(namespace)
        return None if state is None else await self._info(namespace, state)

    async def set(self, namespace: str, quota: Quota) -> None:
        """Give a namespace a quota, in place of the one it has. Runs that are live go on, however many there are.

        Whoever starts runs knows of it within a second.

        Raises:
            UsageError: that can't name a namespace.
            NamespaceError: the engine is bound to one.

        Example:
            >>> await engine.quotas.set("acme", Quota(runs=100, usd=50, per="month"))  # doctest: +SKIP
        """
        if not isinstance(quota, Quota):
            msg = f"quotas.set() takes a perdure.Quota, not {quota!r}"
            raise UsageError(msg)
        await self._connection.store.quotas.set(check_namespace(namespace), quota)

    async def remove(self, namespace: str) -> None:
        """Let a namespace have as much as it likes.

        Raises:
            NamespaceError: the engine is bound to one.
        """
        await self._connection.store.quotas.set(check_namespace(namespace), None)

    async def _info(self, namespace: str, state: QuotaState) -> QuotaInfo:
        store, now, quota = self._connection.store, self._connection.clock(), state.quota
        found = await measure(store, namespace, quota, now) if quota.measured else None
        starts, starts_at = None, None
        if quota.starts is not None:
            starts, at = room(quota.starts.pace, state.arrival, int(now * MICRO))
            starts_at = datetime.fromtimestamp(at / MICRO, UTC)
        renews = period(quota.per, now)[1] if quota.usd is not None else None
        return QuotaInfo(
            namespace=namespace,
            quota=quota,
            runs=await store.quotas.live(namespace),
            starts=starts,
            starts_at=starts_at,
            storage=None if found is None or quota.storage is None else found.storage,
            usd=None if found is None or quota.usd is None else found.spent / 1_000_000_000,
            renews_at=None if renews is None else datetime.fromtimestamp(renews, UTC),
        )


class Quoted:
    """The part of an engine that has quotas."""

    def _open(self) -> Connection:
        raise NotImplementedError

    @property
    def quotas(self) -> Quotas:
        """Quotas: how much each namespace may have."""
        return Quotas(self._open())
