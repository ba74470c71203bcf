"""The threads of graphs in one namespace (see storage/checkpoints.py; the namespaces there are those of subgraphs)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.core.namespaces import short
from perdure.storage.checkpoints import (
    Ancestor,
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    CheckpointStore,
    KeptCheckpoint,
)

_PAGE = 500


class ScopedCheckpoints:
    """See CheckpointStore."""

    def __init__(self, inner: CheckpointStore, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        made_by = None if row.made_by is None else self._prefix + row.made_by
        inside = msgspec.structs.replace(row, thread=self._prefix + row.thread, made_by=made_by)
        await self._inner.put(inside, values)

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        await self._inner.put_writes(self._prefix + thread, namespace, id, writes)

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        kept = await self._inner.get(self._prefix + thread, namespace, id)
        return None if kept is None else msgspec.structs.replace(kept, row=_outside(kept.row))

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
        behind = None if after is None else _head_within(after, self._prefix)
        found: list[CheckpointHead] = []
        inside = None if thread is None else self._prefix + thread
        while len(found) < limit:
            page = await self._inner.heads(
                inside, namespace, id=id, before=before, after=behind, limit=limit if inside else _PAGE
            )
            found += [_head(head) for head in page if head.thread.startswith(self._prefix)]
            if inside or len(page) < _PAGE:
                break
            behind = page[-1]
        return found[:limit]

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        return await self._inner.past(self._prefix + thread, namespace, id, channels)

    async def delete(self, thread: str) -> None:
        await self._inner.delete(self._prefix + thread)

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        await self._inner.delete_of_runs([self._prefix + run for run in runs])

    async def copy(self, thread: str, to: str) -> None:
        await self._inner.copy(self._prefix + thread, self._prefix + to)

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        await self._inner.prune(self._prefix + thread, namespace, before=before, keep=keep)


def _outside(row: CheckpointRow) -> CheckpointRow:
    made_by = None if row.made_by is None else short(row.made_by)
    return msgspec.structs.replace(row, thread=short(row.thread), made_by=made_by)


def _head(head: CheckpointHead) -> CheckpointHead:
    return msgspec.structs.replace(head, thread=short(head.thread))


def _head_within(head: CheckpointHead, prefix: str) -> CheckpointHead:
    return msgspec.structs.replace(head, thread=prefix + head.thread)
