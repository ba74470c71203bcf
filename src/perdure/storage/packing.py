"""Between the rows of the stores' tables and packages.

Both SQL stores have the same tables, so what they read and write for a package is the same but for the statements.
Rows of `TABLES` begin with a run's key, those of `streams` with a stream's; `runs`, `streams` and `items` have shapes
of their own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from perdure.storage import moving as m
from perdure.storage.moving import HELD, AnyPart, Generation, ItemPart, Package, Stamp, Tables, WriterPart

#: What is kept for one generation, in the order of a package.
TABLES: Mapping[str, Callable[..., AnyPart]] = {
    "events": m.HistoryPart,
    "inbox": m.MailPart,
    "mail_keys": m.KeyPart,
    "step_details": m.DetailPart,
    "callbacks": m.CallbackPart,
    "attributes": m.AttributePart,
    "patches": m.PatchPart,
    "donors": m.DonorPart,
    "publication_waits": m.WaitPart,
    "usage": m.UsagePart,
    "updates": m.UpdatePart,
}
#: Those whose order says something. The others are sorted here, since databases sort texts differently.
_IN_ORDER = frozenset({"events", "inbox"})

#: The mail of an arrival that had ended before.
ENDED = -1

_encode = msgspec.json.Encoder().encode


def assemble(ids: Sequence[str], tables: Tables) -> list[Package | None]:
    """Packages of the rows that were read for these ids.

    Args:
        tables: `runs` (key, id, number, then as in Generation), each of TABLES, `streams` (key, id, name), `items`
            (stream, offset, at, key, step, attempt, data, since) and `stream_writers` (key, step, stream, attempt,
            first, last, superseded, open).
    """
    numbers: dict[int, int] = {}
    parts: dict[str, list[AnyPart]] = {}
    owners: dict[int, str] = {}
    for key, id, number, *rest in sorted(tables["runs"], key=lambda row: (row[1], row[2])):
        numbers[key], owners[key] = number, id
        *rest, pinned, paused, misfits, checkpoint, name, priority, dedup = rest
        code = (bool(pinned), paused, tuple(misfits or ()), checkpoint)
        fields: list[Any] = [number, *rest, *code, name, priority, dedup]
        row = Generation(*fields)
        parts.setdefault(id, []).append(row)
    for table, make in TABLES.items():
        kept: dict[str, list[AnyPart]] = defaultdict(list)
        for key, *rest in tables[table]:
            kept[owners[key]].append(make(numbers[key], *rest))
        for id, several in kept.items():
            parts[id] += several if table in _IN_ORDER else sorted(several, key=_encode)
            if table in _IN_ORDER:
                parts[id][-len(several) :] = sorted(several, key=attrgetter("generation"))
    _assemble_streams(tables, numbers, owners, parts)
    return [Package(id, tuple(parts[id])) if id in parts else None for id in ids]


def _assemble_streams(
    tables: Tables, numbers: Mapping[int, int], owners: Mapping[int, str], parts: dict[str, list[AnyPart]]
) -> None:
    streams = {stream: (id, name) for stream, id, name in tables["streams"]}
    items: dict[str, list[AnyPart]] = defaultdict(list)
    for stream, offset, at, run, step, attempt, data, since in tables["items"]:
        id, name = streams[stream]
        items[id].append(ItemPart(numbers[run], name, offset, at, step, attempt, data, since))
    for id, several in items.items():
        parts[id] += sorted(several, key=attrgetter("stream", "offset"))
    writers: dict[str, list[AnyPart]] = defaultdict(list)
    for run, step, stream, attempt, first, last, superseded, is_open in tables["stream_writers"]:
        part = WriterPart(
            numbers[run], streams[stream][1], step, attempt, first, last, superseded, bool(is_open)
        )
        writers[owners[run]].append(part)
    for id, found in writers.items():
        parts[id] += sorted(found, key=_encode)


def disassemble(
    packages: Iterable[Package],
    parents: Mapping[tuple[str, int], int],
    new_run: Callable[[], int],
    new_stream: Callable[[], int],
    *,
    held: bool,
) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of packages, with new keys.

    Args:
        parents: keys of runs that are there, by id and generation.
        held: live runs are owned by HELD, and `arrivals` (key, wake_at, mail) says when they are due; of those that
            have ended `mail` is ENDED.

    Returns:
        As `assemble` takes it; but `runs` are (key, id, number, seq, epoch, owner, mail, parent, next, then as in
        Generation without the parent's id and number), `updates` (key, run id, ...), `streams` (key, id, name,
        size).
    """
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    known = dict(parents)
    tables = {kind: table for table, kind in TABLES.items()}
    for package in packages:
        keys = {generation.generation: new_run() for generation in package.generations}
        known |= {(package.id, number): key for number, key in keys.items()}
        streams: dict[str, int] = {}
        sizes: dict[str, int] = defaultdict(int)
        mail: dict[int, int] = defaultdict(int)
        for part in package.parts:
            key = keys[part.generation]
            if isinstance(part, Generation):
                continue
            if isinstance(part, ItemPart | WriterPart):
                if part.stream not in streams:
                    streams[part.stream] = new_stream()
                _place(part, key, streams[part.stream], rows)
                if isinstance(part, ItemPart):
                    sizes[part.stream] = max(sizes[part.stream], part.offset)
            else:
                table = tables[type(part)]
                _, *values = msgspec.structs.astuple(part)
                if table == "inbox":
                    mail[key] += 1
                    values.insert(0, mail[key])
                elif table == "updates":
                    values.insert(0, package.id)
                rows[table].append((key, *values))
        rows["streams"] += [(stream, package.id, name, sizes[name]) for name, stream in streams.items()]
        following = [*list(keys.values())[1:], None]
        for generation, after in zip(package.generations, following, strict=True):
            key = keys[generation.generation]
            holds = held and generation.ended_at is None
            rows["runs"].append(_run_row(package.id, key, after, generation, known, mail[key], holds=holds))
            if held and after is None:
                rows["arrivals"].append((key, generation.wake_at, mail[key] if holds else ENDED))
    return rows


def _place(
    part: ItemPart | WriterPart, key: int, stream: int, rows: dict[str, list[tuple[Any, ...]]]
) -> None:
    """Add the row of an item, or of a step that has put some out."""
    if isinstance(part, ItemPart):
        item = (part.offset, part.at, key, part.step, part.attempt, part.data, part.since)
        rows["items"].append((stream, *item))
    else:
        _, _, step, *rest = msgspec.structs.astuple(part)
        rows["stream_writers"].append((key, step, stream, *rest))


def _run_row(
    id: str,
    key: int,
    after: int | None,
    row: Generation,
    known: Mapping[tuple[str, int], int],
    mail: int,
    *,
    holds: bool,
) -> tuple[Any, ...]:
    parent = None
    if row.parent_id is not None and row.parent_generation is not None:
        parent = known.get((row.parent_id, row.parent_generation))
    state = (row.workflow, row.status, row.queue, row.fingerprint, row.chain)
    times = (row.created_at, row.updated_at, row.started_at, row.ended_at, None if holds else row.wake_at)
    trouble = (row.recoveries, row.semantics, row.reason, row.block_code)
    ties = (None if parent is None else row.parent_op, row.on_parent_close)
    code = (row.version, row.pinned, row.paused, row.misfits, row.checkpoint)
    place = (row.key, row.priority, row.dedup)
    owner = HELD if holds else None
    return (
        key,
        id,
        row.generation,
        row.seq,
        1,
        owner,
        mail,
        parent,
        after,
        *state,
        *times,
        *trouble,
        *ties,
        *code,
        *place,
    )


def make_stamps(rows: Iterable[Sequence[Any]]) -> list[Stamp]:
    """Stamps of runs.

    Args:
        rows: one for each generation, by key: (id, parent's id, seq, owner, ended_at, then whatever else may change).
    """
    found: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return [
        Stamp(
            id=id,
            live=any(row[4] is None for row in several),
            owned=any(row[3] is not None and row[3] != HELD for row in several),
            held=any(row[3] == HELD for row in several),
            size=sum(row[2] for row in several),
            parents=[row[1] for row in several if row[1] is not None],
            print=hashlib.blake2b(_encode(several), digest_size=16).digest(),
        )
        for id, several in found.items()
    ]


def counted(package: Package) -> Package:
    """A package as an archive has it: what the run has spent is in the totals of the database from which it goes."""
    parts = (
        msgspec.structs.replace(part, counted=True) if isinstance(part, m.UsagePart) else part
        for part in package.parts
    )
    return Package(package.id, tuple(parts))
