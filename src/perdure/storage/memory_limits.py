"""The rate limits of a memory store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perdure.core.limiting import turn
from perdure.core.permits import Answers, Batch, LimitState
from perdure.storage.limits import decode_state, encode_state
from perdure.storage.memory_database import MemoryDatabase


class MemoryLimits:
    """See LimitStore.

    Args:
        database: the database, if the store is open.
    """

    def __init__(self, database: Callable[[], MemoryDatabase]) -> None:
        self._database = database

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        return turn(self._database().limits, batch, now)

    async def all(self) -> Mapping[str, LimitState]:
        limits = self._database().limits
        return {name: decode_state(encode_state(limits[name])) for name in sorted(limits)}
