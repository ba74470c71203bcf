"""What a store promises about runs that nobody can begin: they can be ended without a driver.

A run that no registered worker has code for, in its queue, is blocked. If it has never been driven, nothing of its
code has run, and nothing has to be cleaned up. So when it is asked to end it can end where it stands, and a
parent that waits for it hears of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.storage.records import Mail


class Unbegun(Protocol):
    """Runs that have never been driven and are blocked for want of a worker, as `store.unbegun`."""

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        """Control mail of such runs, of each the oldest first, at most `limit` items."""
        ...

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        """(queue, workflow) of such runs in these queues whose workflow begins with `prefix`; at most `limit`."""
        ...

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        """End such a run: append `event` and make `status` final; its parent is told.

        Returns:
            False if it isn't such a run any more; nothing was done then.
        """
        ...
