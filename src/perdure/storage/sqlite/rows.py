"""Between SQLite's rows and the records of the storage seam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from perdure.storage.records import Mail, NewRun, RunRow
from perdure.storage.sqlite.database import Row, Value
from perdure.storage.workers import WorkerRow

_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(list[str])


def as_json(values: Sequence[Any] | Mapping[str, Any]) -> str:
    """A list, or an object, as the one JSON text by which it is bound to a statement."""
    return _encode(values).decode()


def from_hex(text: str) -> list[bytes]:
    """Blobs that a statement gave as one JSON list of hex texts."""
    return [bytes.fromhex(item) for item in _texts.decode(text)]


def run_rows(rows: Iterable[Row]) -> list[RunRow]:
    return [RunRow(*row) for row in rows]


def mail_rows(rows: Iterable[Row]) -> list[Mail]:
    return [Mail(*row) for row in rows]


def worker_row(row: Row) -> WorkerRow:
    values: list[Any] = [*row]
    for place in (7, 8):  # queues and workflows
        values[place] = _texts.decode(values[place])
    values[-1] = bool(values[-1])  # stopping
    return WorkerRow(*values)


def new_runs(runs: Iterable[NewRun], chains: Iterable[int]) -> str:
    """The binding of the `create_many` query, from each run and its chain."""
    return as_json(
        [
            (
                run.id,
                run.workflow,
                run.queue,
                run.fingerprint.hex(),
                run.created_at,
                run.wake_at,
                run.owner,
                run.parent,
                run.parent_op,
                run.on_parent_close,
                int(run.pinned),
                run.key,
                run.priority,
                chain,
            )
            for run, chain in zip(runs, chains, strict=True)
        ]
    )


def new_run(run: NewRun, parent: int | None, semantics: int, chain: int) -> dict[str, Value]:
    """Bindings of the `create` query."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "queue": run.queue,
        "fingerprint": run.fingerprint,
        "chain": chain,
        "created_at": run.created_at,
        "wake_at": run.wake_at,
        "owner": run.owner,
        "semantics": semantics,
        "parent": parent,
        "parent_op": run.parent_op,
        "on_parent_close": run.on_parent_close.value,
        "generation": run.generation,
        "pinned": int(run.pinned),
        "key": run.key,
        "priority": run.priority,
        "dedup": run.dedup,
        "slot": run.slot,
    }
