"""The checkpoints of a memory store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from perdure.storage.checkpoints import (
    Ancestor,
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    KeptCheckpoint,
)


class MemoryCheckpoints:
    """See CheckpointStore.

    Args:
        checkpoints: those of the database, if the store is open.
    """

    def __init__(self, checkpoints: Callable[[], Checkpoints]) -> None:
        self._checkpoints = checkpoints

    async def put(self, row: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        db = self._checkpoints()
        db.rows[row.thread, row.namespace, row.id] = row
        for value in values:
            db.values.setdefault((row.thread, row.namespace, value.channel, value.version), value)

    async def put_writes(self, thread: str, namespace: str, id: str, writes: Sequence[ChannelWrite]) -> None:
        kept = self._checkpoints().writes.setdefault((thread, namespace, id), {})
        for write in writes:
            if write.index < 0 or (write.task, write.index) not in kept:
                kept[write.task, write.index] = write

    async def get(self, thread: str, namespace: str, id: str | None) -> KeptCheckpoint | None:
        db = self._checkpoints()
        if id is None:
            id = max((key[2] for key in db.rows if key[:2] == (thread, namespace)), default="")
        row = db.rows.get((thread, namespace, id))
        return None if row is None else KeptCheckpoint(row, db.values_of(row), db.writes_of(row))

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
        found = [
            CheckpointHead(row.thread, row.namespace, row.id, row.metadata)
            for row in self._checkpoints().rows.values()
            if thread in (None, row.thread)
            and namespace in (None, row.namespace)
            and id in (None, row.id)
            and (before is None or row.id < before)
            and (after is None or _order(row) < _order(after))
        ]
        return sorted(found, key=_order, reverse=True)[:limit]

    async def past(self, thread: str, namespace: str, id: str, channels: Sequence[str]) -> list[Ancestor]:
        db = self._checkpoints()
        missing = set(channels)
        ancestors: list[Ancestor] = []
        row = db.rows.get((thread, namespace, id))
        while missing and row is not None and row.parent is not None and row.parent < row.id:
            row = db.rows.get((thread, namespace, row.parent))
            if row is not None:
                values = [value for value in db.values_of(row) if value.channel in missing]
                writes = [write for write in db.writes_of(row) if write.channel in missing]
                ancestors.append(Ancestor(row.id, values, writes))
                missing.difference_update(value.channel for value in values)
        return ancestors

    async def delete(self, thread: str) -> None:
        db = self._checkpoints()
        db.forget(key for key in db.rows if key[0] == thread)
        for kept in (db.values, db.writes):
            for key in [key for key in kept if key[0] == thread]:
                del kept[key]  # type: ignore[arg-type]

    async def delete_of_runs(self, runs: Sequence[str]) -> None:
        db = self._checkpoints()
        db.forget(key for key, row in db.rows.items() if row.made_by in runs)

    async def copy(self, thread: str, to: str) -> None:
        db = self._checkpoints()
        for key, row in [*db.rows.items()]:
            if key[0] == thread:
                db.rows.setdefault((to, *key[1:]), _moved(row, to))
        for place, value in [*db.values.items()]:
            if place[0] == thread:
                db.values.setdefault((to, *place[1:]), value)
        for key, writes in [*db.writes.items()]:
            if key[0] == thread:
                kept = db.writes.setdefault((to, *key[1:]), {})
                db.writes[to, key[1], key[2]] = {**writes, **kept}

    async def prune(self, thread: str, namespace: str, *, before: str, keep: Sequence[str]) -> None:
        db = self._checkpoints()
        db.forget(
            key
            for key in db.rows
            if key[:2] == (thread, namespace) and key[2] < before and key[2] not in keep
        )


class Checkpoints:
    """The rows, by thread, namespace and id; what channels held, by thread, namespace, name and version."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], CheckpointRow] = {}
        self.values: dict[tuple[str, str, str, str], ChannelValue] = {}
        self.writes: dict[tuple[str, str, str], dict[tuple[str, int], ChannelWrite]] = {}

    def values_of(self, row: CheckpointRow) -> list[ChannelValue]:
        keys = [(row.thread, row.namespace, *channel) for channel in sorted(row.channels.items())]
        return [self.values[key] for key in keys if key in self.values]

    def writes_of(self, row: CheckpointRow) -> list[ChannelWrite]:
        writes = self.writes.get((row.thread, row.namespace, row.id), {}).values()
        return sorted(writes, key=lambda write: (write.path, write.task, write.index))

    def forget(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Remove checkpoints, their writes, and the values that nobody has any more."""
        gone = [*keys]
        for key in gone:
            del self.rows[key]
            self.writes.pop(key, None)
        threads = {key[0] for key in gone}
        used = {
            (row.thread, row.namespace, *channel)
            for row in self.rows.values()
            if row.thread in threads
            for channel in row.channels.items()
        }
        for place in [place for place in self.values if place[0] in threads and place not in used]:
            del self.values[place]


def _order(row: CheckpointRow | CheckpointHead) -> tuple[str, str, str]:
    return (row.id, row.thread, row.namespace)


def _moved(row: CheckpointRow, to: str) -> CheckpointRow:
    return CheckpointRow(
        to, row.namespace, row.id, row.parent, row.made_by, row.channels, row.metadata, row.data
    )
