"""The checkpoints of a PostgreSQL store. See storage/checkpoints.py for what is promised.

No verb does harm when it happens twice, and nobody waits for what they write: none has to go in the clients' lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.storage.checkpoints import (
    Ancestor,
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    KeptCheckpoint,
    told_by,
)
from perdure.storage.postgres.database import Database, Row
from perdure.storage.postgres.ways import Ways

_encode = msgspec.json.Encoder().encode


class PostgresCheckpoints:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        await self._ways.beside(_put, row, values, marked=False)

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        await self._ways.beside(_put_writes, thread, namespace, id, writes, marked=False)

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        return await self._ways.read(_get, thread, namespace, id)

    async def heads(
        self,
        thread: str | None,
        namespace: str | None,
        *,
        id: str | None = None,
        before: str | None = None,
        after: CheckpointHead | None = None,
        limit: int,
    ) -> list[CheckpointHead]:
        return await self._ways.read(_heads, thread, namespace, id, before, after, limit)

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        return await self._ways.read(_past, thread, namespace, id, channels)

    async def delete(self, thread: str) -> None:
        await self._ways.beside(_delete, thread, marked=False)

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        await self._ways.beside(_delete_of_runs, runs, marked=False)

    async def copy(self, thread: str, to: str) -> None:
        await self._ways.beside(_copy, thread, to, marked=False)

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        await self._ways.beside(_prune, thread, namespace, before, keep, marked=False)


async def _put(db: Database, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
    # always in the same order, so that no two wait for each other
    kept = sorted((row.thread, row.namespace, it.channel, it.version, it.data) for it in values)
    await db.many("put_value", kept)
    await db.run(
        "put_checkpoint", **{**msgspec.structs.asdict(row), "channels": _encode(row.channels).decode()}
    )


async def _put_writes(
    db: Database, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]
) -> None:
    rows = [(thread, namespace, id, it.task, it.index, it.channel, it.path, it.data) for it in writes]
    await db.many("put_write", sorted(rows))


async def _get(db: Database, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
    where = {"thread": thread, "namespace": namespace}
    if id is None:
        rows = await db.rows("newest_checkpoint", **where)
    else:
        rows = await db.rows("checkpoint", **where, id=id)
    for row in rows:
        kept = CheckpointRow(*row)
        values = await db.rows("values_of_checkpoint", **where, channels=_encode(kept.channels).decode())
        writes = await db.rows("writes_of_checkpoint", **where, id=kept.id)
        return KeptCheckpoint(
            kept, [ChannelValue(*value) for value in values], [ChannelWrite(*write) for write in writes]
        )
    return None


async def _heads(
    db: Database,
    thread: str | None,
    namespace: str | None,
    id: str | None,
    before: str | None,
    after: CheckpointHead | None,
    limit: int,
) -> list[CheckpointHead]:
    bindings: dict[str, Any] = {
        "namespace": namespace,
        "id": id,
        "before": before,
        "after": None if after is None else after.id,
        "after_thread": None if after is None else after.thread,
        "after_namespace": None if after is None else after.namespace,
        "limit": limit,
    }
    if thread is None:
        rows = await db.rows("checkpoint_heads", **bindings)
    else:
        rows = await db.rows("checkpoint_heads_of_thread", **bindings, thread=thread)
    return [CheckpointHead(*row) for row in rows]


async def _past(
    db: Database, thread: str, namespace: str, id: str, channels: Sequence[str]
) -> list[Ancestor]:
    where = {"thread": thread, "namespace": namespace}
    chain = await db.rows("checkpoint_ancestors", **where, id=id, names=list(channels))
    ancestors: list[Ancestor] = []
    for key, wanted, versions in told_by([(key, found or {}) for key, found in chain], channels):
        writes = await db.rows("writes_of_checkpoint", **where, id=key)
        values = await db.rows("values_of_checkpoint", **where, channels=_encode(versions).decode())
        ancestors.append(
            Ancestor(
                key,
                [ChannelValue(*value) for value in values],
                [write for write in (ChannelWrite(*row) for row in writes) if write.channel in wanted],
            )
        )
    return ancestors


async def _delete(db: Database, thread: str) -> None:
    for query in ("delete_checkpoints", "delete_checkpoint_values", "delete_checkpoint_writes"):
        await db.run(query, thread=thread)


async def _delete_of_runs(db: Database, runs: Sequence[str]) -> None:
    await _forget(db, await db.rows("checkpoints_of_runs", runs=list(runs)))


async def _prune(db: Database, thread: str, namespace: str, before: str, keep: Sequence[str]) -> None:
    where = {"thread": thread, "namespace": namespace, "before": before}
    await _forget(db, await db.rows("checkpoints_before", **where, keep=list(keep)))


async def _forget(db: Database, keys: Sequence[Row]) -> None:
    ordered = sorted(keys)
    await db.many("forget_checkpoint", ordered)
    await db.many("forget_writes", ordered)
    for thread in sorted({key[0] for key in keys}):
        await db.run("forget_values", thread=thread)


async def _copy(db: Database, thread: str, to: str) -> None:
    for query in ("copy_checkpoints", "copy_checkpoint_values", "copy_checkpoint_writes"):
        await db.run(query, thread=thread, to=to)
