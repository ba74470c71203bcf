"""Moving runs out of a memory store and into one. See storage/moving.py for what is promised."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from perdure.core.attributes import Attribute
from perdure.core.events import SEMANTICS_VERSION
from perdure.storage import memory_ledger
from perdure.storage.callbacks import CallbackRow
from perdure.storage.effects import UpdateState
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_queues import put_in_line, with_dedup
from perdure.storage.memory_run import Run
from perdure.storage.memory_streams import Stream, Writer
from perdure.storage.moving import HELD, Mark, Package, Stamp, everything
from perdure.storage.packing import ENDED, TABLES, assemble, disassemble, make_stamps
from perdure.storage.publications import OpenWait
from perdure.storage.records import Detail, Mail
from perdure.storage.streams import StreamRow


class MemoryMoving:
    """See Moving.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def mark(self) -> Mark | None:
        return self._database().move

    async def begin(self, mark: Mark) -> Mark:
        db = self._database()
        if db.move is None:
            db.move = mark
            for name, row in db.schedules.items():
                db.schedules[name] = msgspec.structs.replace(row, version=row.version + 1)
        return db.move

    async def give_up(self, token: str) -> bool:
        db = self._database()
        if db.move is None or db.move.token != token or db.move.done:
            return False
        db.move = None
        self._changed()
        return True

    async def stamps(self) -> list[Stamp]:
        return _stamps(self._database())

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        return assemble(ids, _tables(self._database(), frozenset(ids)))

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        db = self._database()
        replaced = [package.id for package in packages if _is_held(db, package.id, hold)]
        erase_runs(db, replaced)
        made = [package.id not in db.keys for package in packages]
        wanted = [package for package, new in zip(packages, made, strict=True) if new]
        known = {(run.id, run.generation): run.run for run in db.runs.values()}
        runs = itertools.count(db.last_run + 1)
        tables = disassemble(wanted, known, runs.__next__, itertools.count().__next__, held=hold is not None)
        _fill(db, tables, hold)
        if hold is None:
            for row in tables["runs"]:
                if not (run := db.runs[row[0]]).ended:
                    put_in_line(db.queues.get(run.queue), run, time.time())
        self._changed()
        return made

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        db = self._database()
        if db.move is None or db.move.token != token or db.move.done:
            return False
        stamps = _stamps(db)
        schedules = [(row.name, row.version) for row in db.schedules.values()]
        if any(stamp.owned for stamp in stamps) or everything(stamps, schedules) != seen:
            return False
        for run in db.runs.values():
            if not run.ended:
                db.end_alone(run, event, now)
        db.move = msgspec.structs.replace(db.move, done=True)
        self._changed()
        return True

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        db = self._database()
        arrived = [key for key, (_, _, move) in sorted(db.arrivals.items()) if move == token][:limit]
        for key in arrived:
            wake_at, mail, _ = db.arrivals.pop(key)
            run = db.runs[key]
            if run.owner == HELD:
                delayed = run.status == "queued" and wake_at is not None
                wanted = len(run.inbox) > mail and not run.held and not delayed
                run.release(now if wanted else wake_at)
                if not run.ended:
                    put_in_line(db.queues.get(run.queue), run, now)
        if arrived:
            self._changed()
        return len(arrived)

    async def drop(self, token: str) -> int:
        db = self._database()
        ids = sorted({db.runs[key].id for key, (_, _, move) in db.arrivals.items() if move == token})
        erase_runs(db, ids)
        return len(ids)


def _stamps(db: MemoryDatabase) -> list[Stamp]:
    heard: dict[int, float] = {}
    for callback in db.callbacks.values():
        heard[callback.run] = max(callback.heard_at, heard.get(callback.run, 0.0))
    return make_stamps(
        (
            run.id,
            db.runs[run.parent].id if run.parent in db.runs else None,
            len(run.events),
            run.owner,
            run.ended_at,
            run.generation,
            run.epoch,
            len(run.inbox),
            run.status,
            run.updated_at,
            run.paused,
            run.wake_at,
            heard.get(run.run),
        )
        for run in db.runs.values()
    )


def _is_held(db: MemoryDatabase, id: str, token: str | None) -> bool:
    run = db.find_id(id)
    if token is None or run is None or run.run not in db.arrivals:
        return False
    _, mail, move = db.arrivals[run.run]
    return move == token and (run.owner == HELD or mail == ENDED)


def erase_runs(db: MemoryDatabase, ids: Sequence[str]) -> None:
    """Remove everything that belongs to these ids."""
    gone = {key for key, run in db.runs.items() if run.id in ids}
    db.runs = {key: run for key, run in db.runs.items() if key not in gone}
    db.keys = {id: key for id, key in db.keys.items() if id not in ids}
    db.arrivals = {key: row for key, row in db.arrivals.items() if key not in gone}
    db.callbacks = {token: row for token, row in db.callbacks.items() if row.run not in gone}
    db.streams = {place: stream for place, stream in db.streams.items() if place[0] not in ids}
    db.updates = {place: row for place, row in db.updates.items() if place[0] not in ids}
    for key in gone:
        db.children.pop(key, None)
        db.usage.pop(key, None)
        db.publications.close_waits(key)
    for children in db.children.values():
        children[:] = [key for key in children if key not in gone]


# -- as rows --------------------------------------------------------------------------------------------


def _tables(db: MemoryDatabase, ids: frozenset[str]) -> dict[str, list[tuple[Any, ...]]]:
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in (*TABLES, "items", "stream_writers")}
    found = [run for run in db.runs.values() if run.id in ids]
    tables["runs"] = [_run_row(db, run) for run in found]
    for run in found:
        key = run.run
        tables["events"] += [
            (key, seq, link, data)
            for seq, (link, data) in enumerate(zip(run.links, run.events, strict=True), 1)
        ]
        tables["inbox"] += [(key, item.kind, item.data) for item in run.inbox.values()]
        tables["mail_keys"] += [(key, text) for text in run.mail_keys]
        tables["step_details"] += [
            (key, detail.step, detail.data, float(detail.at)) for detail in run.details.values()
        ]
        tables["attributes"] += [
            (key, name, place, attribute.family, value)
            for name, attribute in run.attributes.items()
            for place, value in enumerate(attribute.values, int(attribute.listed))
        ]
        tables["patches"] += [(key, change) for change in run.patches]
        tables["donors"] += [(key, run.donor)] if run.donor is not None else []
        tables["publication_waits"] += db.publications.waits_of(key)
        tables["usage"] += [(key, *row) for row in memory_ledger.packed(db, key)]
    keys = {run.run for run in found}
    for token, row in db.callbacks.items():
        if row.run in keys:
            times = _seconds(row.opened_at, row.expires_at, row.heartbeat, row.heard_at)
            ended = _seconds(row.ended_at)
            asked = (row.question, row.answer)
            tables["callbacks"].append((row.run, token, row.op, *times, str(row.state), *ended, *asked))
    tables["updates"] = [
        (key, update, call, state.value, answer)
        for (id, update), (key, state, answer, call) in db.updates.items()
        if id in ids
    ]
    wanted = [(id, name) for id, name in db.streams if id in ids]
    tables["streams"] = [(number, id, name) for number, (id, name) in enumerate(wanted)]
    for number, place in enumerate(wanted):
        stream = db.streams[place]
        tables["items"] += [
            (number, row.offset, float(row.at), run, row.step, row.attempt, row.data, row.since)
            for run, row in stream.rows
        ]
        tables["stream_writers"] += [
            (run, step, number, *msgspec.structs.astuple(writer))
            for (run, step), writer in stream.writers.items()
        ]
    return tables


def _run_row(db: MemoryDatabase, run: Run) -> tuple[Any, ...]:
    parent = db.runs.get(run.parent) if run.parent is not None else None
    wake_at = run.wake_at
    if run.owner is not None:
        wake_at = db.arrivals[run.run][0] if run.owner == HELD else run.updated_at
    return (
        *(run.run, run.id, run.generation, run.workflow, run.status, run.queue, run.fingerprint),
        *(len(run.events), run.chain),
        *_seconds(run.created_at, run.updated_at, run.started_at, run.ended_at, wake_at),
        *(run.recoveries, SEMANTICS_VERSION, run.reason, run.block_code),
        *((None, None) if parent is None else (parent.id, parent.generation)),
        *(run.parent_op, str(run.on_parent_close), run.version, run.pinned),
        *_seconds(run.paused),
        *(tuple(run.misfits), run.checkpoint, run.key, run.priority, run.dedup),
    )


def _seconds(*moments: float | None) -> Iterator[float | None]:
    return (None if moment is None else float(moment) for moment in moments)


# -- from rows ------------------------------------------------------------------------------------------


def _fill(db: MemoryDatabase, tables: dict[str, list[tuple[Any, ...]]], token: str | None) -> None:
    for row in tables["runs"]:
        run = _run(row)
        if with_dedup(db, run.dedup) is not None:
            run.dedup = None
        db.runs[run.run] = run
        db.last_run = max(db.last_run, run.run)
        if run.next is None:
            db.keys[run.id] = run.run
        if run.parent is not None:
            db.children.setdefault(run.parent, []).append(run.run)
    for key, _, link, data in tables["events"]:
        db.runs[key].events.append(data)
        db.runs[key].links.append(link)
    for key, _, kind, data in tables["inbox"]:
        number = db.new_mail()
        db.runs[key].inbox[number] = Mail(number, key, data, kind)
    for key, text in tables["mail_keys"]:
        db.runs[key].mail_keys.add(text)
    for key, step, data, at in tables["step_details"]:
        db.runs[key].details[step] = Detail(step, data, at)
    for key, token_hash, *rest in tables["callbacks"]:
        db.callbacks.setdefault(token_hash, CallbackRow(key, *rest))
    _fill_attributes(db, tables["attributes"])
    for key, op, name, where, since, after in tables["publication_waits"]:
        db.publications.open_wait(key, OpenWait(op, name, where, since, after))
    for key, id, *entry in tables["usage"]:
        db.usage.setdefault(key, {})[id] = memory_ledger.Row(id, *entry)
    for key, change in tables["patches"]:
        db.runs[key].patches.add(change)
    for key, donor in tables["donors"]:
        db.runs[key].donor = donor
    for key, id, update, call, state, answer in tables["updates"]:
        db.updates[id, update] = key, UpdateState(state), answer, call
    streams = {
        number: db.streams.setdefault((id, name), Stream()) for number, id, name, _ in tables["streams"]
    }
    for number, offset, at, key, step, attempt, data, since in tables["items"]:
        item = StreamRow(offset, at, data, step, attempt, superseded=False, since=since)
        streams[number].rows.append((key, item))
    for key, step, number, *rest in tables["stream_writers"]:
        streams[number].writers[key, step] = Writer(*rest)
    for key, wake_at, mail in tables["arrivals"]:
        assert token is not None
        db.arrivals[key] = wake_at, mail, token


def _run(row: Sequence[Any]) -> Run:
    key, id, generation, _, epoch, owner, _, parent, after, workflow, status, queue, fingerprint, *rest = row
    chain, created, updated, started, ended, wake_at, recoveries, _, reason, block_code, op, policy, *rest = (
        rest
    )
    version, pinned, paused, misfits, checkpoint, name, priority, dedup = rest
    return Run(
        run=key,
        id=id,
        generation=generation,
        epoch=epoch,
        owner=owner,
        parent=parent,
        next=after,
        workflow=workflow,
        status=status,
        queue=queue,
        fingerprint=fingerprint,
        created_at=created,
        updated_at=updated,
        started_at=started,
        ended_at=ended,
        wake_at=wake_at,
        recoveries=recoveries,
        reason=reason,
        block_code=block_code,
        parent_op=op,
        on_parent_close=policy,
        version=version,
        pinned=pinned,
        paused=paused,
        misfits=list(misfits),
        checkpoint=checkpoint,
        key=name,
        priority=priority,
        dedup=dedup,
        events=[],
        links=[],
        chain=chain,
    )


def _fill_attributes(db: MemoryDatabase, rows: Iterable[Sequence[Any]]) -> None:
    values: dict[tuple[int, str], tuple[Any, list[tuple[int, Any]]]] = {}
    for key, name, place, family, value in rows:
        values.setdefault((key, name), (family, []))[1].append((place, value))
    for (key, name), (family, several) in values.items():
        several.sort()
        listed = several[0][0] > 0
        db.runs[key].attributes[name] = Attribute(name, family, tuple(value for _, value in several), listed)
