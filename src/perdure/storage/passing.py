"""What the stores around a store have in common: verbs in which there is nothing of a run but its key.

They are written down one by one, as all verbs of such a store are: one that nobody has thought about isn't there.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.protocol import Store
from perdure.storage.workers import Heartbeat, WorkerRow


class PassesWorkersOn:
    """Who drives runs is no concern of a store around a store.

    Attributes:
        below: the store that is asked.
    """

    below: Store

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        return await self.below.owned(worker)

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        return await self.below.register(worker, now=now)

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        return await self.below.heartbeat(worker, beat)

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        await self.below.announce(worker, workflows, now=now)

    async def workers(self) -> list[WorkerRow]:
        return await self.below.workers()

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        return await self.below.suspects(host, lapsed_before=lapsed_before)

    async def crowd(self) -> int:
        return await self.below.crowd()

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        return await self.below.bury(worker, seen_lease, now=now, max_recoveries=max_recoveries)

    async def retire(self, worker: int, *, now: float) -> None:
        await self.below.retire(worker, now=now)

    async def strand(self, *, now: float) -> int:
        return await self.below.strand(now=now)
