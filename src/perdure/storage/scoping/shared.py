"""What namespaces share, and what none of them has: queues, the database itself.

Queues are pools of workers, and code says what limits them. A namespace chooses among them, and sees how its own runs
stand there; to hold or steer one is its operators'. The keys by which a queue treats runs apart are a namespace's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perdure.core.namespaces import short
from perdure.core.queues import QueueSettings
from perdure.core.quotas import Measured, Quota, QuotaState, Refusal
from perdure.storage.disk import DiskUse, Tended
from perdure.storage.keys import KeyRow, KeyStore
from perdure.storage.moving import Mark, Moving, Package, Stamp
from perdure.storage.queues import QueueCounts, QueueRow, QueueStore, Standing
from perdure.storage.quotas import QuotaStore
from perdure.storage.records import Mail
from perdure.storage.resealing import Key, Piece
from perdure.storage.retention import EndedRun, Orphan, Removal, Sweeping, Swept, Turn
from perdure.storage.scoping.mine import Mine, of_operators, of_workers


class ScopedQueues:
    """See QueueStore."""

    def __init__(self, inner: QueueStore, prefix: str, mine: Mine) -> None:
        self._inner = inner
        self._prefix = prefix
        self._mine = mine

    async def define(self, name: str, settings: QueueSettings, *, now: float) -> QueueSettings | None:
        of_operators("What limits a queue")

    async def change(
        self,
        name: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        draining: bool | None = None,
        now: float,
    ) -> QueueRow:
        of_operators("Holding or steering a queue")

    async def all(self) -> list[QueueRow]:
        return [_outside(row) for row in await self._inner.all()]

    async def counts(self, *, now: float) -> list[QueueCounts]:
        return []  # how full they are is made by everybody's runs

    async def held(self, name: str) -> int:
        return 0

    async def standing(self, run: int) -> Standing | None:
        if not await self._mine.only([run]):
            return None
        standing = await self._inner.standing(run)
        if standing is None:
            return None
        return msgspec.structs.replace(
            standing,
            queue=None if standing.queue is None else _outside(standing.queue),
            key=None if standing.key is None else short(standing.key),
            holders=[short(id) for id in standing.holders if id.startswith(self._prefix)],
        )


def _outside(row: QueueRow) -> QueueRow:
    """A queue without what others have made of it: whose turn it was, and when its last run began."""
    return msgspec.structs.replace(row, arrival=0, turn="")


class ScopedUnbegun:
    """See Unbegun."""

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        of_workers()

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        of_workers()

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        of_workers()


class ScopedRetention:
    """See Retaining."""

    async def turn(self, holder: str, *, now: float, until: float, rules: bytes = b"") -> Turn | None:
        of_workers()

    async def sweeping(self) -> Sweeping | None:
        of_operators("Removing old runs")

    async def note(self, holder: str, plan: bytes | None) -> bool:
        of_workers()

    async def leave(self, holder: str) -> None:
        of_workers()

    async def ended(
        self, *, before: float, after: tuple[float, int] = (0.0, 0), limit: int
    ) -> list[EndedRun]:
        of_operators("Removing old runs")

    async def orphans(self, *, limit: int) -> list[Orphan]:
        of_operators("Removing old runs")

    async def needed(self, runs: Sequence[int]) -> dict[int, str]:
        of_operators("Removing old runs")

    async def remove(
        self, runs: Sequence[tuple[int, int]], *, archive: str = "", now: float, rows: int
    ) -> list[Removal]:
        of_operators("Removing old runs")

    async def sweep(self, *, rows: int, bytes: int) -> Swept:
        of_workers()


class ScopedDisk:
    """See Disk."""

    async def use(self) -> DiskUse:
        of_operators("How much room is taken")

    async def partition(self, span: str) -> bool:
        of_operators("Partitioning")

    async def tend(self, *, now: float) -> Tended:
        of_workers()

    async def shrink(self, *, bytes: int) -> int:
        of_operators("Giving room back")


class ScopedResealing:
    """See Resealing."""

    async def pieces(self, kind: str, *, after: Key, limit: int) -> Sequence[Piece]:
        of_operators("Rotating keys")

    async def replace(self, kind: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
        of_operators("Rotating keys")


class ScopedKeys:
    """See KeyStore: a namespace's subjects are its own, and their keys can be destroyed, but not handled otherwise."""

    def __init__(self, inner: KeyStore, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def obtain(self, row: KeyRow) -> KeyRow:
        of_operators("Making keys")

    async def get(self, ids: Sequence[str]) -> list[KeyRow | None]:
        return [self._outside(row) for row in await self._inner.get(ids)]

    async def of(self, subject: str) -> list[KeyRow]:
        kind, colon, name = subject.partition(":")
        rows = await self._inner.of(f"{kind}:{self._prefix}{name}" if colon else self._prefix + subject)
        return [found for row in rows if (found := self._outside(row)) is not None]

    async def page(self, *, after: str, limit: int) -> list[KeyRow]:
        of_operators("Handling everybody's keys")

    async def rewrap(self, id: str, ring: str, *, to: str, wrapped: bytes) -> bool:
        of_operators("Handling everybody's keys")

    async def erase(self, id: str, *, now: float) -> bool:
        if await self.get([id]) == [None]:
            return False
        return await self._inner.erase(id, now=now)

    def _outside(self, row: KeyRow | None) -> KeyRow | None:
        """A key as its namespace sees it, None if it is of another one."""
        if row is None:
            return None
        kind, _, name = row.subject.partition(":")
        if not name.startswith(self._prefix):
            return None
        return msgspec.structs.replace(row, subject=f"{kind}:{short(name)}")


class ScopedMoving:
    """See Moving."""

    def __init__(self, inner: Moving) -> None:
        self._inner = inner

    async def mark(self) -> Mark | None:
        """Whether runs are moved away matters to whoever wants to start some."""
        return await self._inner.mark()

    async def begin(self, mark: Mark) -> Mark:
        of_operators("Moving runs")

    async def give_up(self, token: str) -> bool:
        of_operators("Moving runs")

    async def stamps(self) -> list[Stamp]:
        of_operators("Moving runs")

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        of_operators("Exporting runs")

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        of_operators("Importing runs")

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        of_operators("Moving runs")

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        of_operators("Moving runs")

    async def drop(self, token: str) -> int:
        of_operators("Moving runs")


class ScopedQuotas:
    """See QuotaStore. A namespace sees its own quota; giving one is its operators'."""

    def __init__(self, inner: QuotaStore, namespace: str) -> None:
        self._inner = inner
        self._namespace = namespace

    async def set(self, namespace: str, quota: Quota | None) -> None:
        of_operators("Giving quotas")

    async def all(self) -> Mapping[str, QuotaState]:
        return {name: state for name, state in (await self._inner.all()).items() if name == self._namespace}

    async def take(
        self, namespace: str, ids: Sequence[str], *, now: float, measured: Measured | None = None
    ) -> Refusal | None:
        of_workers()

    async def live(self, namespace: str) -> int:
        return await self._inner.live(self._mine(namespace))

    async def measure(self, namespace: str, *, since: float) -> tuple[int, int]:
        return await self._inner.measure(self._mine(namespace), since=since)

    def _mine(self, namespace: str) -> str:
        if namespace != self._namespace:
            of_operators("Another namespace's quota")
        return namespace
