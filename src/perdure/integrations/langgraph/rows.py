"""Between LangGraph's checkpoints and the rows that a store keeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from perdure.storage.checkpoints import (
    Ancestor,
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    KeptCheckpoint,
)


def place(config: RunnableConfig) -> tuple[str, str]:
    """The thread and the namespace that a config means."""
    configurable: dict[str, Any] = config.get("configurable", {})
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")


class Rows:
    """Makes rows, and reads them.

    Args:
        serde: turns values into a kind and bytes; here the kind stands before the bytes.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def pack(self, value: Any) -> bytes:
        kind, data = self._serde.dumps_typed(value)
        return kind.encode() + b"\0" + data

    def unpack(self, data: bytes) -> Any:
        kind, _, rest = data.partition(b"\0")
        return self._serde.loads_typed((kind.decode(), rest))

    # -- into the store -----------------------------------------------------------------------------

    def row_of(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[CheckpointRow, list[ChannelValue]]:
        thread, namespace = place(config)
        body: dict[str, Any] = {**checkpoint}
        held: dict[str, Any] = body.pop("channel_values")
        facts: dict[str, Any] = {**get_checkpoint_metadata(config, metadata)}
        run = facts.get("run_id")
        row = CheckpointRow(
            thread=thread,
            namespace=namespace,
            id=checkpoint["id"],
            parent=get_checkpoint_id(config),
            made_by=None if run is None else str(run),
            channels={name: str(version) for name, version in checkpoint["channel_versions"].items()},
            metadata=self.pack(facts),
            data=self.pack(body),
        )
        values = [
            ChannelValue(name, str(version), self.pack(held[name]))
            for name, version in new_versions.items()
            if name in held
        ]
        return row, values

    def writes_of(self, writes: Sequence[tuple[str, Any]], task: str, path: str) -> list[ChannelWrite]:
        return [
            ChannelWrite(task, WRITES_IDX_MAP.get(channel, number), channel, path, self.pack(value))
            for number, (channel, value) in enumerate(writes)
        ]

    # -- out of it ----------------------------------------------------------------------------------

    def tuple_of(self, kept: KeptCheckpoint) -> CheckpointTuple:
        row = kept.row
        checkpoint: Any = self.unpack(row.data)
        checkpoint["channel_values"] = {it.channel: self.unpack(it.data) for it in kept.values}
        where = {"thread_id": row.thread, "checkpoint_ns": row.namespace}
        return CheckpointTuple(
            config={"configurable": {**where, "checkpoint_id": row.id}},
            checkpoint=checkpoint,
            metadata=self.unpack(row.metadata),
            parent_config=None
            if row.parent is None
            else {"configurable": {**where, "checkpoint_id": row.parent}},
            pending_writes=[(it.task, it.channel, self.unpack(it.data)) for it in kept.writes],
        )

    def fits(self, head: CheckpointHead, filter: Mapping[str, Any]) -> bool:
        """Whether the metadata of a checkpoint is what is looked for."""
        facts: Mapping[str, Any] = self.unpack(head.metadata)
        return all(facts.get(name) == value for name, value in filter.items())

    def deltas_of(self, kept: KeptCheckpoint) -> list[str]:
        """The channels whose value has to be rebuilt from what was written since an earlier checkpoint."""
        facts: Mapping[str, Any] = self.unpack(kept.row.metadata)
        there = {value.channel for value in kept.values}
        counted: Mapping[str, Any] = facts.get("counters_since_delta_snapshot") or {}
        return [name for name in counted if name not in there]

    def history_of(self, past: Sequence[Ancestor], channels: Sequence[str]) -> dict[str, DeltaChannelHistory]:
        found: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
        for ancestor in reversed(past):
            for value in ancestor.values:
                found[value.channel]["seed"] = self.unpack(value.data)
            for write in ancestor.writes:
                found[write.channel]["writes"].append((write.task, write.channel, self.unpack(write.data)))
        return found
