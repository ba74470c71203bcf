"""Checkpoints of graphs on their way into a store and out of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.storage.checkpoints import (
    Ancestor,
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    KeptCheckpoint,
)
from perdure.storage.sealing.around import Part

_change = msgspec.structs.replace


class SealedCheckpoints(Part):
    """See CheckpointStore.

    A thread can be copied under another name within the store, so what is in it isn't bound to its name, but to
    namespace, channel, version and the like.
    """

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        vault, place = self._vault, (row.namespace, row.id)
        sealed = _change(
            row,
            metadata=vault.value(row.metadata, "checkpoint metadata", *place),
            data=vault.value(row.data, "checkpoint", *place),
        )
        kept = [
            _change(
                value, data=vault.value(value.data, "channel", row.namespace, value.channel, value.version)
            )
            for value in values
        ]
        await self._store.below.checkpoints.put(sealed, kept)

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        sealed = [
            _change(write, data=self._vault.value(write.data, "write", *_place_of(namespace, id, write)))
            for write in writes
        ]
        await self._store.below.checkpoints.put_writes(thread, namespace, id, sealed)

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        kept = await self._store.below.checkpoints.get(thread, namespace, id)
        if kept is None:
            return None
        vault, row = self._vault, kept.row
        place = row.namespace, row.id
        opened = _change(
            row,
            metadata=vault.needed(row.metadata, "checkpoint metadata", *place),
            data=vault.needed(row.data, "checkpoint", *place),
        )
        return KeptCheckpoint(opened, self._values(namespace, kept.values), self._writes(*place, kept.writes))

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
        found = await self._store.below.checkpoints.heads(
            thread, namespace, id=id, before=before, after=after, limit=limit
        )
        return [
            _change(
                head,
                metadata=self._vault.needed(head.metadata, "checkpoint metadata", head.namespace, head.id),
            )
            for head in found
        ]

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        found = await self._store.below.checkpoints.past(thread, namespace, id, channels)
        return [
            Ancestor(one.id, self._values(namespace, one.values), self._writes(namespace, one.id, one.writes))
            for one in found
        ]

    async def delete(self, thread: str) -> None:
        await self._store.below.checkpoints.delete(thread)

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        await self._store.below.checkpoints.delete_of_runs(runs)

    async def copy(self, thread: str, to: str) -> None:
        await self._store.below.checkpoints.copy(thread, to)

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        await self._store.below.checkpoints.prune(thread, namespace, before=before, keep=keep)

    def _values(self, namespace: str, values: Sequence[ChannelValue]) -> list[ChannelValue]:
        return [
            _change(
                value, data=self._vault.needed(value.data, "channel", namespace, value.channel, value.version)
            )
            for value in values
        ]

    def _writes(self, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> list[ChannelWrite]:
        return [
            _change(write, data=self._vault.needed(write.data, "write", *_place_of(namespace, id, write)))
            for write in writes
        ]


def _place_of(namespace: str, id: str, write: ChannelWrite) -> tuple[str, str, str, int, str]:
    return namespace, id, write.task, write.index, write.channel
