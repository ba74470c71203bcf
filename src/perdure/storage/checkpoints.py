"""Checkpoints of graphs: what a store keeps of state that belongs to no run.

A *thread* is a conversation of a graph of another framework, with one *namespace* for the graph and each of its
subgraphs. Its state is a chain of checkpoints, each with the one before as its parent; forks make it a tree. What a
channel held is kept once for each of its versions, so that a checkpoint costs what has changed. *Writes* are what the
tasks after a checkpoint achieved before the next one is made. Ids of checkpoints grow: that is their order.

All of it is bytes to the store. Each verb is one transaction, and does no harm when it happens twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec


class CheckpointRow(msgspec.Struct, frozen=True, gc=False):
    """One checkpoint, without what its channels hold.

    Attributes:
        namespace: "" for the graph itself.
        parent: the id of the checkpoint before it.
        made_by: which run of the graph, by the id that its framework gave it.
        channels: the version of each of its channels, by name.
        metadata, data: no matter of the store's.
    """

    thread: str
    namespace: str
    id: str
    parent: str | None
    made_by: str | None
    channels: Mapping[str, str]
    metadata: bytes
    data: bytes


class ChannelValue(msgspec.Struct, frozen=True, gc=False):
    """What a channel held in one of its versions. It never changes."""

    channel: str
    version: str
    data: bytes


class ChannelWrite(msgspec.Struct, frozen=True, gc=False):
    """What a task wrote to a channel.

    Attributes:
        index: its place among the task's writes. What was written first stays; below 0 the last one counts.
        path: where in the graph the task is. Writes are ordered by path, task and index.
    """

    task: str
    index: int
    channel: str
    path: str
    data: bytes


class CheckpointHead(msgspec.Struct, frozen=True, gc=False):
    """By what a checkpoint is chosen."""

    thread: str
    namespace: str
    id: str
    metadata: bytes


class KeptCheckpoint(msgspec.Struct, frozen=True, gc=False):
    """A checkpoint with everything of it."""

    row: CheckpointRow
    values: Sequence[ChannelValue]
    writes: Sequence[ChannelWrite]


class Ancestor(msgspec.Struct, frozen=True, gc=False):
    """What a checkpoint before another one tells of the channels that were asked for."""

    id: str
    values: Sequence[ChannelValue]
    writes: Sequence[ChannelWrite]


class CheckpointStore(Protocol):
    """The checkpoints in a store, as `store.checkpoints`."""

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        """Keep a checkpoint, in the place of one with the same id, and values whose versions are new."""
        ...

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        """Keep what a task has written after this checkpoint."""
        ...

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        """The checkpoint of this id, or the newest one."""
        ...

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
        """Heads of checkpoints, the newest first; None = any.

        Args:
            before: only ids below this one.
            after: only what comes behind this one in the list.
        """
        ...

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        """The ancestors of a checkpoint, the nearest first, up to the nearest with a value of each channel.

        Of a channel they tell its writes up to, and with, the nearest ancestor with a value, and that value.
        """
        ...

    async def delete(self, thread: str) -> None:
        """Forget a thread."""
        ...

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        """Forget the checkpoints that these runs made, with their writes and the values that only they had."""
        ...

    async def copy(self, thread: str, to: str) -> None:
        """Keep everything of a thread under another name, too."""
        ...

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        """Forget the checkpoints with ids below `before` but these, with what only they had."""
        ...


def told_by(
    chain: Iterable[tuple[str, Mapping[str, str]]], channels: Sequence[str]
) -> list[tuple[str, frozenset[str], dict[str, str]]]:
    """What to fetch for `CheckpointStore.past`.

    Args:
        chain: each ancestor, the nearest first, and the versions of these channels that a value of it is kept of.

    Returns:
        Of each ancestor up to the last one that is needed: its id, the channels whose writes are asked for, and the
        versions whose values are.
    """
    missing = frozenset(channels)
    told: list[tuple[str, frozenset[str], dict[str, str]]] = []
    for id, versions in chain:
        if not missing:
            break
        found = {channel: version for channel, version in versions.items() if channel in missing}
        told.append((id, missing, found))
        missing = missing.difference(found)
    return told
