"""Runs that nobody can begin, in PostgreSQL. See storage/unbegun.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.events import append_by_itself
from perdure.storage.postgres.lifecycle import tell_parent
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Mail


class PostgresUnbegun:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        return await self._ways.read(_mail, limit)

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        return await self._ways.read(_missed, queues, prefix, limit)

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        return await self._ways.write(_end, run, event, status, reason, now)


async def _mail(db: Database, limit: int) -> list[Mail]:
    return [Mail(*row) for row in await db.rows("mail_of_unbegun", limit=limit)]


async def _missed(db: Database, queues: Sequence[str], prefix: str, limit: int) -> list[tuple[str, str]]:
    rows = await db.rows("missed_workflows", queues=list(queues), prefix=prefix, limit=limit)
    return [(queue, workflow) for queue, workflow in rows]


async def _end(db: Database, run: int, event: bytes, status: str, reason: str | None, now: float) -> bool:
    ended = await db.rows("end_unbegun", run=run, status=status, reason=reason, now=now)
    for seq, chain, parent, parent_op in ended:
        await append_by_itself(db, [(run, seq, chain)], [event])
        await db.run("drop_inboxes", runs=[run])
        await tell_parent(db, parent, parent_op, status, now)
    return bool(ended)
