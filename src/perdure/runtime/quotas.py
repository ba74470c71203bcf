"""Asks for a namespace's quota before something new is put into a store for it.

Where there is no quota at all that is found out once a second, so namespaces without any cost nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from perdure.core.quotas import MEASURED_FOR, Measured, Quota, Refusal, period, told
from perdure.errors import QuotaExceededError
from perdure.storage.protocol import Store
from perdure.storage.publications import Publication
from perdure.storage.records import NewRun

#: Seconds for which it is believed which namespaces have a quota.
KNOWN_FOR = 1.0


class Quotas:
    """Decides whether namespaces may have more; the admission of a scoped store.

    Args:
        store: in which the quotas are.
        clock: wall-clock seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[Quota, Measured]] = {}
        self._known_at = -KNOWN_FOR

    async def runs(self, namespace: str, runs: Sequence[NewRun]) -> None:
        """Somebody outside starts runs; some of them may exist already. Ids are stored ones.

        Raises:
            QuotaExceededError: it may not have them; nothing is written.
        """
        await self._ask(namespace, [run.id for run in runs])

    async def publications(self, namespace: str, publications: Sequence[Publication]) -> None:
        """Somebody outside publishes something, which may start runs. Raises what `runs` does."""
        await self._ask(namespace, ())

    async def _ask(self, namespace: str, ids: Sequence[str]) -> None:
        now = self._clock()
        if not 0 <= now - self._known_at < KNOWN_FOR:
            found = await self._store.quotas.all()
            self._known = {name: (state.quota, state.measured) for name, state in found.items()}
            self._known_at = now
        if namespace not in self._known:
            return
        quota, measured = self._known[namespace]
        newer = None
        if quota.measured and not 0 <= now - measured.at < MEASURED_FOR:
            newer = await measure(self._store, namespace, quota, now)
        refusal = await self._store.quotas.take(namespace, ids, now=now, measured=newer)
        if newer is not None:
            self._known[namespace] = quota, newer
        if refusal is not None:
            raise quota_error(namespace, refusal)


async def measure(store: Store, namespace: str, quota: Quota, now: float) -> Measured:
    """What a namespace has in the database, and has spent in this period."""
    storage, spent = await store.quotas.measure(namespace, since=period(quota.per, now)[0])
    return Measured(now, storage, spent)


def quota_error(namespace: str, refusal: Refusal) -> QuotaExceededError:
    """The error of whoever is refused."""
    again = None if refusal.again is None else datetime.fromtimestamp(refusal.again, UTC)
    return QuotaExceededError(
        told(namespace, refusal),
        namespace=namespace,
        what=refusal.what,
        limit=refusal.limit,
        used=refusal.used,
        again=again,
    )
