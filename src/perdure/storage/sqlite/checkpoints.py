"""The checkpoints of a SQLite store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
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
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.rows import as_json

_versions = msgspec.json.Decoder(dict[str, str])
_encode = msgspec.json.Encoder().encode


class SqliteCheckpoints:
    """See CheckpointStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        await self._write(_put, row, values)

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        await self._write(_put_writes, thread, namespace, id, writes)

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        found: KeptCheckpoint | None = await self._read(_get, thread, namespace, id)
        return found

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
        found: list[CheckpointHead] = await self._read(_heads, thread, namespace, id, before, after, limit)
        return found

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        found: list[Ancestor] = await self._read(_past, thread, namespace, id, channels)
        return found

    async def delete(self, thread: str) -> None:
        await self._write(_delete, thread)

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        await self._write(_delete_of_runs, runs)

    async def copy(self, thread: str, to: str) -> None:
        await self._write(_copy, thread, to)

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        await self._write(_prune, thread, namespace, before, keep)


# -- on a thread's connection ---------------------------------------------------------------------------


def _put(db: Database, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
    db.many(
        "put_value",
        [(row.thread, row.namespace, value.channel, value.version, value.data) for value in values],
    )
    db.run("put_checkpoint", {**msgspec.structs.asdict(row), "channels": _encode(row.channels).decode()})


def _put_writes(db: Database, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
    db.many(
        "put_write",
        [(thread, namespace, id, it.task, it.index, it.channel, it.path, it.data) for it in writes],
    )


def _get(db: Database, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
    where: dict[str, Value] = {"thread": thread, "namespace": namespace}
    rows = db.rows("newest_checkpoint", where) if id is None else db.rows("checkpoint", {**where, "id": id})
    for row in rows:
        kept = _row(row)
        values = db.rows("values_of_checkpoint", {**where, "channels": row[5]})
        writes = db.rows("writes_of_checkpoint", {**where, "id": kept.id})
        return KeptCheckpoint(
            kept, [ChannelValue(*value) for value in values], [ChannelWrite(*write) for write in writes]
        )
    return None


def _heads(
    db: Database,
    thread: str | None,
    namespace: str | None,
    id: str | None,
    before: str | None,
    after: CheckpointHead | None,
    limit: int,
) -> list[CheckpointHead]:
    bindings: dict[str, Value] = {
        "namespace": namespace,
        "id": id,
        "before": before,
        "after": None if after is None else after.id,
        "after_thread": None if after is None else after.thread,
        "after_namespace": None if after is None else after.namespace,
        "limit": limit,
    }
    if thread is None:
        rows = db.rows("checkpoint_heads", bindings)
    else:
        rows = db.rows("checkpoint_heads_of_thread", {**bindings, "thread": thread})
    return [CheckpointHead(*row) for row in rows]


def _past(db: Database, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
    where: dict[str, Value] = {"thread": thread, "namespace": namespace}
    chain = db.rows("checkpoint_ancestors", {**where, "id": id, "names": as_json(channels)})
    told = told_by([(key, _versions.decode(versions)) for key, versions in chain], channels)
    ancestors: list[Ancestor] = []
    for key, wanted, versions in told:
        writes = db.rows("writes_of_checkpoint", {**where, "id": key})
        values = db.rows("values_of_checkpoint", {**where, "channels": _encode(versions).decode()})
        ancestors.append(
            Ancestor(
                key,
                [ChannelValue(*value) for value in values],
                [write for write in (ChannelWrite(*row) for row in writes) if write.channel in wanted],
            )
        )
    return ancestors


def _delete(db: Database, thread: str) -> None:
    for query in ("delete_checkpoints", "delete_checkpoint_values", "delete_checkpoint_writes"):
        db.run(query, {"thread": thread})


def _delete_of_runs(db: Database, runs: Sequence[str]) -> None:
    _forget(db, db.rows("checkpoints_of_runs", {"runs": as_json(list(runs))}))


def _prune(db: Database, thread: str, namespace: str, before: str, keep: Sequence[str]) -> None:
    bindings: dict[str, Value] = {"thread": thread, "namespace": namespace, "before": before}
    _forget(db, db.rows("checkpoints_before", {**bindings, "keep": as_json(list(keep))}))


def _forget(db: Database, keys: Sequence[Row]) -> None:
    db.many("forget_checkpoint", keys)
    db.many("forget_writes", keys)
    for thread in sorted({key[0] for key in keys}):
        db.run("forget_values", {"thread": thread})


def _copy(db: Database, thread: str, to: str) -> None:
    for query in ("copy_checkpoints", "copy_checkpoint_values", "copy_checkpoint_writes"):
        db.run(query, {"thread": thread, "to": to})


def _row(row: Row) -> CheckpointRow:
    thread, namespace, id, parent, made_by, channels, metadata, data = row
    return CheckpointRow(thread, namespace, id, parent, made_by, _versions.decode(channels), metadata, data)
