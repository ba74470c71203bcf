"""Moving runs out of a SQLite store and into one. See storage/moving.py for what is promised."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from perdure.storage.moving import Mark, Package, Stamp, everything
from perdure.storage.packing import TABLES, assemble, disassemble, make_stamps
from perdure.storage.publications import wait_row
from perdure.storage.sqlite.database import Database, Row
from perdure.storage.sqlite.lifecycle import end_from_outside
from perdure.storage.sqlite.rows import as_json

_texts = msgspec.json.Decoder(tuple[str, ...])

#: Where the rows of a package go, and what is erased with a run.
_BY_RUN = ("runs", *(table for table in TABLES if table != "updates"), "stream_writers")
_BY_ID = ("updates", "items", "streams")


class SqliteMoving:
    """See Moving.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def mark(self) -> Mark | None:
        found: Mark | None = await self._read(_mark)
        return found

    async def begin(self, mark: Mark) -> Mark:
        standing: Mark = await self._write(_begin, mark)
        return standing

    async def give_up(self, token: str) -> bool:
        given_up: bool = await self._write(_give_up, token)
        return given_up

    async def stamps(self) -> list[Stamp]:
        found: list[Stamp] = await self._read(_stamps)
        return found

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        found: list[Package | None] = await self._read(_read, ids)
        return found

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        made: list[bool] = await self._write(_put, packages, hold)
        return made

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        done: bool = await self._write(_switch, token, seen, event, now)
        return done

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        arrived: int = await self._write(_arrive, token, now, limit)
        return arrived

    async def drop(self, token: str) -> int:
        dropped: int = await self._write(_drop, token)
        return dropped


# -- on a thread's connection ---------------------------------------------------------------------------


def _mark(db: Database) -> Mark | None:
    for token, url, done in db.rows("mark"):
        return Mark(token, url, bool(done))
    return None


def _begin(db: Database, mark: Mark) -> Mark:
    if db.run("begin_move", {"token": mark.token, "url": mark.to}):
        db.run("outdate_schedules")
    standing = _mark(db)
    assert standing is not None
    return standing


def _give_up(db: Database, token: str) -> bool:
    return db.run("give_up_move", {"token": token}) == 1


def _stamps(db: Database) -> list[Stamp]:
    return make_stamps(db.rows("stamps"))


def _read(db: Database, ids: Sequence[str]) -> list[Package | None]:
    keys = [key for _, _, key, _ in db.rows("numbered", {"ids": as_json(ids)})]
    runs, named = {"runs": as_json(keys)}, {"ids": as_json(ids)}
    tables = {
        table: db.rows(f"pack_{table}", named if table in ("updates", "streams", "items") else runs)
        for table in ("runs", *TABLES, "streams", "items", "stream_writers")
    }
    tables["runs"] = [_with_list(row) for row in tables["runs"]]
    tables["usage"] = [(*row[:-1], bool(row[-1])) for row in tables["usage"]]
    return assemble(ids, tables)


def _with_list(row: Row) -> Row:
    *rest, misfits, checkpoint, key, priority, dedup = row
    return (*rest, () if misfits is None else _texts.decode(misfits), checkpoint, key, priority, dedup)


def _put(db: Database, packages: Sequence[Package], hold: str | None) -> list[bool]:
    standing: dict[str, list[int]] = {}
    for id, _, key, _ in db.rows("numbered", {"ids": as_json([package.id for package in packages])}):
        standing.setdefault(id, []).append(key)
    if hold is not None:
        there = [key for keys in standing.values() for key in keys]
        held = db.rows("held_for", {"runs": as_json(there), "token": hold})
        replaced = [id for id, keys in standing.items() if any((key,) in held for key in keys)]
        _erase(db, replaced, [key for id in replaced for key in standing.pop(id)])
    wanted = [package for package in packages if package.id not in standing]
    parents = sorted(
        {g.parent_id for package in wanted for g in package.generations if g.parent_id is not None}
    )
    known = {(id, number): key for id, number, key, _ in db.rows("numbered", {"ids": as_json(parents)})}
    ((last_run, last_stream),) = db.rows("newest_keys")
    runs, streams = itertools.count(last_run + 1), itertools.count(last_stream + 1)
    tables = disassemble(wanted, known, runs.__next__, streams.__next__, held=hold is not None)
    db.many("put_runs", [_with_json(db, row) for row in tables["runs"]])
    db.many("put_inbox", [(run, *rest) for run, _, *rest in tables["inbox"]])
    for table in (
        "events",
        "mail_keys",
        "step_details",
        "callbacks",
        "attributes",
        "patches",
        "donors",
        "usage",
        "updates",
    ):
        db.many(f"put_{table}", tables[table])
    waits = [wait_row(*row) for row in tables["publication_waits"]]
    db.many("put_publication_shapes", [(name, fields) for _, _, name, _, fields, *_ in waits])
    db.many("put_publication_waits", waits)
    db.many("put_streams", tables["streams"])
    db.many("put_stream_items", tables["items"])
    db.many("put_stream_writers", tables["stream_writers"])
    db.many("put_arrivals", [(*row, hold) for row in tables["arrivals"]])
    if hold is None:
        made = as_json([row[0] for row in tables["runs"]])
        db.run("put_in_lines", {"runs": made, "now": time.time()})
    return [package.id not in standing for package in packages]


def _with_json(db: Database, row: Row) -> Row:
    *rest, pinned, paused, misfits, checkpoint, key, priority, dedup = row
    if dedup is not None and db.rows("dedup_holder", {"dedup": dedup}):
        dedup = None
    known = as_json(misfits) if misfits else None
    return (*rest, int(pinned), paused, known, checkpoint, key, priority, dedup)


def _erase(db: Database, ids: Sequence[str], keys: Sequence[int]) -> None:
    if ids:
        for table in _BY_ID:
            db.run(f"erase_{table}", {"ids": as_json(ids)})
        for table in (*_BY_RUN, "arrivals"):
            db.run(f"erase_{table}", {"runs": as_json(keys)})


def _switch(db: Database, token: str, seen: bytes, event: bytes, now: float) -> bool:
    mark = _mark(db)
    if mark is None or mark.token != token or mark.done:
        return False
    stamps = _stamps(db)
    schedules = [(name, version) for name, version, *_ in db.rows("schedules")]
    if any(stamp.owned for stamp in stamps) or everything(stamps, schedules) != seen:
        return False
    for (run,) in db.rows("live_runs"):
        end_from_outside(db, run, event, now)
    db.run("finish_move", {"token": token})
    return True


def _arrive(db: Database, token: str, now: float, limit: int) -> int:
    going = as_json([run for (run,) in db.rows("next_arrivals", {"token": token, "limit": limit})])
    db.run("let_go", {"token": token, "now": now, "limit": limit})
    db.run("put_in_lines", {"runs": going, "now": now})
    return db.run("forget_arrivals", {"token": token, "limit": limit})


def _drop(db: Database, token: str) -> int:
    ids = [id for (id,) in db.rows("arrivals", {"token": token})]
    _erase(db, ids, [key for _, _, key, _ in db.rows("numbered", {"ids": as_json(ids)})])
    return len(ids)
