"""Runs that nobody can begin, in a memory store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.records import BlockCode, Mail, MailKind


class MemoryUnbegun:
    """See Unbegun.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        found = [
            item
            for run in self._database().runs.values()
            if _is_unbegun(run)
            for item in run.inbox.values()
            if item.kind == MailKind.CONTROL
        ]
        return sorted(found, key=lambda item: item.id)[:limit]

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        names = {
            (run.queue, run.workflow)
            for run in self._database().runs.values()
            if _is_unbegun(run) and run.queue in queues and run.workflow.startswith(prefix)
        }
        return sorted(names)[:limit]

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        db = self._database()
        found = db.runs[run]
        if not _is_unbegun(found):
            return False
        db.end_alone(found, event, now, status=status, reason=reason)
        db.tell_parent(found, status, now)
        self._changed()
        return True


def _is_unbegun(run: Run) -> bool:
    return (
        run.block_code == BlockCode.CODE and run.started_at is None and run.wake_at is None and not run.ended
    )
