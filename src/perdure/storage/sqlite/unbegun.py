"""Runs that nobody can begin, in a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.records import Mail
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.events import append_by_itself
from perdure.storage.sqlite.lifecycle import tell_parent
from perdure.storage.sqlite.rows import as_json, mail_rows


class SqliteUnbegun:
    """See Unbegun.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        found: list[Mail] = await self._read(_mail, limit)
        return found

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = await self._read(_missed, queues, prefix, limit)
        return found

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        ended: bool = await self._write(_end, run, event, status, reason, now)
        return ended


def _mail(db: Database, limit: int) -> list[Mail]:
    return mail_rows(db.rows("mail_of_unbegun", {"limit": limit}))


def _missed(db: Database, queues: Sequence[str], prefix: str, limit: int) -> list[tuple[str, str]]:
    after = prefix + chr(0x10FFFF)  # a range, so that the index serves
    given: dict[str, Value] = {"queues": as_json(queues), "first": prefix, "after": after, "limit": limit}
    return [(queue, workflow) for queue, workflow in db.rows("missed_workflows", given)]


def _end(db: Database, run: int, event: bytes, status: str, reason: str | None, now: float) -> bool:
    ended = db.rows("end_unbegun", {"run": run, "status": status, "reason": reason, "now": now})
    for seq, chain, parent, parent_op in ended:
        append_by_itself(db, run, seq, chain, event)
        db.run("drop_inbox", {"run": run})
        tell_parent(db, parent, parent_op, status, now)
    return bool(ended)
