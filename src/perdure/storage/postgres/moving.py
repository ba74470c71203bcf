"""Moving runs out of a PostgreSQL store and into one. See storage/moving.py for what is promised.

A package is read with its runs' rows locked: whoever changes a run, or what belongs to it, locks its row first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from perdure.storage.moving import Mark, Package, Stamp, everything
from perdure.storage.packing import TABLES, assemble, disassemble, make_stamps
from perdure.storage.postgres.attributes import columns, value_of
from perdure.storage.postgres.database import Database, Row
from perdure.storage.postgres.lifecycle import end_from_outside
from perdure.storage.postgres.rows import new_key
from perdure.storage.postgres.ways import Ways
from perdure.storage.publications import wait_row

#: Where the rows of a package are: by key, and by public id.
_BY_RUN = ("runs", *(table for table in TABLES if table != "updates"), "stream_writers")
_BY_ID = ("updates", "items", "streams")


class PostgresMoving:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def mark(self) -> Mark | None:
        return await self._ways.read(_mark)

    async def begin(self, mark: Mark) -> Mark:
        return await self._ways.write(_begin, mark)

    async def give_up(self, token: str) -> bool:
        return await self._ways.write(_give_up, token)

    async def stamps(self) -> list[Stamp]:
        return await self._ways.read(_stamps)

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        return await self._ways.write(_read, ids)

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        return await self._ways.write(_put, packages, hold)

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        return await self._ways.write(_switch, token, seen, event, now)

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        return await self._ways.write(_arrive, token, now, limit)

    async def drop(self, token: str) -> int:
        return await self._ways.write(_drop, token)


async def _mark(db: Database) -> Mark | None:
    for token, url, done in await db.rows("mark"):
        return Mark(token, url, done)
    return None


async def _begin(db: Database, mark: Mark) -> Mark:
    if await db.run("begin_move", token=mark.token, url=mark.to):
        await db.run("outdate_schedules")
    standing = await _mark(db)
    assert standing is not None
    return standing


async def _give_up(db: Database, token: str) -> bool:
    return await db.run("give_up_move", token=token) == 1


async def _stamps(db: Database) -> list[Stamp]:
    return make_stamps(await db.rows("stamps"))


async def _read(db: Database, ids: Sequence[str]) -> list[Package | None]:
    named = list(ids)
    keys = [key for (key,) in await db.rows("lock_runs_of", ids=named)]
    tables: dict[str, Sequence[Row]] = {}
    for table in _BY_RUN:
        tables[table] = await db.rows(f"pack_{table}", runs=keys) if keys else []
    for table in _BY_ID:
        tables[table] = await db.rows(f"pack_{table}", ids=named) if keys else []
    tables["attributes"] = [
        (run, name, place, family, value_of(family, text))
        for run, name, place, family, text in tables["attributes"]
    ]
    return assemble(ids, tables)


async def _keys(db: Database, ids: Sequence[str]) -> dict[tuple[str, int], int]:
    """The keys of these runs' generations, by id and number."""
    found = await db.rows("numbered", ids=list(ids)) if ids else []
    return {(id, number): key for id, number, key in found}


async def _put(db: Database, packages: Sequence[Package], hold: str | None) -> list[bool]:
    standing: dict[str, list[int]] = {}
    for (id, _), key in (await _keys(db, [package.id for package in packages])).items():
        standing.setdefault(id, []).append(key)
    if hold is not None and standing:
        await db.rows("lock_runs_of", ids=list(standing))
        there = [key for keys in standing.values() for key in keys]
        held = {key for (key,) in await db.rows("held_for", runs=there, token=hold)}
        replaced = [id for id, keys in standing.items() if held.intersection(keys)]
        await _erase(db, replaced, [key for id in replaced for key in standing.pop(id)])
    wanted = [package for package in packages if package.id not in standing]
    parents = {g.parent_id for package in wanted for g in package.generations if g.parent_id is not None}
    known = await _keys(db, sorted(parents))
    tables = disassemble(wanted, known, new_key, new_key, held=hold is not None)
    await db.many("put_ids", [(row[1], row[0]) for row in tables["runs"] if row[8] is None])
    await db.many("put_runs", [_with_list(await _without_rival(db, row)) for row in tables["runs"]])
    attributes = [(*place, family, *columns(family, value)) for *place, family, value in tables["attributes"]]
    await db.many("put_attributes", attributes)
    for table in (
        "events",
        "inbox",
        "mail_keys",
        "step_details",
        "callbacks",
        "patches",
        "donors",
        "usage",
        "updates",
        "streams",
    ):
        await db.many(f"put_{table}", tables[table])
    waits = [wait_row(*row) for row in tables["publication_waits"]]
    await db.many("put_publication_shapes", [(name, fields) for _, _, name, _, fields, *_ in waits])
    await db.many("put_publication_waits", waits)
    await db.many("put_stream_items", tables["items"])
    await db.many("put_stream_writers", tables["stream_writers"])
    await db.many("put_arrivals", [(*row, hold) for row in tables["arrivals"]])
    if hold is None and tables["runs"]:
        await db.run("put_in_lines", runs=[row[0] for row in tables["runs"]], now=time.time())
    return [package.id not in standing for package in packages]


def _with_list(row: Row) -> Row:
    """The row with its mail counted twice (the number of the newest item, too), and a list as such."""
    *rest, misfits, checkpoint, key, priority, dedup = row
    return (*rest[:7], rest[6], *rest[7:], list(misfits) or None, checkpoint, key, priority, dedup)


async def _without_rival(db: Database, row: Row) -> Row:
    """The row without its dedup, if a live run has that here; else it is taken."""
    *rest, dedup = row
    if dedup is None:
        return row
    holder = await db.value("dedup_holder", dedup=dedup)
    if holder is not None and await db.rows("holds_dedup", run=holder):
        return (*rest, None)
    if row[16] is None:
        await db.run("take_dedup", dedup=dedup, holder=row[0])
    return row


async def _erase(db: Database, ids: Sequence[str], keys: Sequence[int]) -> None:
    if ids:
        for table in (*_BY_ID, "ids"):
            await db.run(f"erase_{table}", ids=list(ids))
        for table in (*_BY_RUN, "arrivals"):
            await db.run(f"erase_{table}", runs=list(keys))


async def _switch(db: Database, token: str, seen: bytes, event: bytes, now: float) -> bool:
    if [done for (done,) in await db.rows("lock_move", token=token)] != [False]:
        return False
    await db.take_time()  # a million runs are compared in seconds
    await db.rows("lock_everything")
    await db.rows("lock_callbacks")
    schedules = [(name, version) for name, version in await db.rows("lock_schedules")]
    stamps = await _stamps(db)
    if any(stamp.owned for stamp in stamps) or everything(stamps, schedules) != seen:
        return False
    for (run,) in await db.rows("live_runs"):
        await end_from_outside(db, run, event, now)
    await db.run("finish_move", token=token)
    return True


async def _arrive(db: Database, token: str, now: float, limit: int) -> int:
    arrived = [run for (run,) in await db.rows("some_arrivals", token=token, limit=limit)]
    if arrived:
        await db.run("let_go", runs=arrived, now=float(now))
        await db.run("put_in_lines", runs=arrived, now=float(now))
        await db.run("erase_arrivals", runs=arrived)
    return len(arrived)


async def _drop(db: Database, token: str) -> int:
    ids = [id for (id,) in await db.rows("arrivals", token=token)]
    await _erase(db, ids, list((await _keys(db, ids)).values()))
    return len(ids)
