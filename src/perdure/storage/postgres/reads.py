"""The reading verbs of the Store protocol. Each is one statement, so it sees one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import errors

from perdure.errors import UnknownRunError
from perdure.storage.chain import Damage, Proof, first_of, is_sound, newest_of, unreadable
from perdure.storage.postgres.attributes import find_keys
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import rows_by_key, run_rows, worker_row
from perdure.storage.postgres.verbs import rows_by_id
from perdure.storage.records import Detail, History, Mail, RunFilter, RunRow
from perdure.storage.workers import WorkerRow

_PAGE = 1000
_CORRUPTED = (errors.DataCorrupted, errors.IndexCorrupted)


async def get(db: Database, ids: Sequence[str]) -> list[RunRow | None]:
    rows = await rows_by_id(db, ids) if ids else {}
    return [rows.get(name) for name in ids]


async def generation(db: Database, id: str, number: int) -> RunRow | None:
    return next(iter(run_rows(await db.rows("generation", id=id, generation=number))), None)


def bindings_of(filter: RunFilter) -> dict[str, Any]:
    """What the queries that find runs are given."""
    return {
        "before": filter.before,
        "parent": filter.parent,
        "statuses": list(filter.statuses) or None,
        "workflow": filter.workflow,
        "text": filter.text,
        "since": None if filter.since is None else float(filter.since),
        "limit": filter.limit,
        "errands": filter.errands,
    }


async def find(db: Database, filter: RunFilter) -> list[RunRow]:
    given = bindings_of(filter)
    bounds = (filter.unpatched, filter.until, filter.floor, filter.among, filter.within, filter.parent)
    if filter.attributes or any(bound is not None for bound in bounds):
        keys = await find_keys(db, filter, given)
        return await rows_by_key(db, keys) if keys else []
    return run_rows(await db.rows("find", **given))


async def events(db: Database, run: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    return [(seq, data) for seq, data in await db.rows("events", run=run, after=after, limit=limit)]


async def load(db: Database, runs: Sequence[int]) -> list[History]:
    try:
        return await _load(db, runs)
    except _CORRUPTED as error:
        if len(runs) == 1:
            return [History(runs[0], (), (), damage=unreadable(error))]
    return [history for run in runs for history in await load(db, [run])]


async def _load(db: Database, runs: Sequence[int]) -> list[History]:
    first_links: dict[int, int] = {}
    said: dict[int, tuple[str, int, int, int, int | None, int | None]] = {}
    found: dict[int, tuple[list[bytes], list[int], list[Mail], list[Detail]]] = {
        run: ([], [], [], []) for run in runs
    }
    if runs:
        for run, kind, number, its_link, data, text, *rest in await db.rows("histories", runs=list(runs)):
            events, seqs, inbox, _ = found[run]
            if kind == 1:
                if not events:
                    first_links[run] = its_link
                events.append(data)
                seqs.append(number)
            elif kind == 0:
                generation, checkpoint, there = rest
                said[run] = text, generation, number, its_link, checkpoint, there
            else:
                inbox.append(Mail(number, run, data, text))
        for run, *detail in await db.rows("details", runs=list(runs)):
            found[run][3].append(Detail(*detail))
    histories: list[History] = []
    for run in runs:
        events, seqs, inbox, details = found[run]
        sound = run not in said or is_sound(*said[run], seqs, first_links.get(run, 0), events)
        damage = None if sound else await _damage(db, run, *said[run][:5])
        histories.append(History(run, events, inbox, details, damage))
    return histories


async def _damage(
    db: Database, run: int, id: str, generation: int, seq: int, chain: int, checkpoint: int | None
) -> Damage:
    """What is wrong with a history; what was appended since is left out."""
    proof = Proof(id, generation, seq, chain)
    after = 0
    while page := await db.rows("linked_events", run=run, after=after, limit=_PAGE):
        for place, its_link, data in page:
            proof.feed(place, its_link, data)
            after = place
    return first_of(proof.finish(), checkpoint)


async def inbox(db: Database, run: int) -> list[Mail]:
    return [Mail(*row) for row in await db.rows("inbox", run=run)]


async def last_event(db: Database, runs: Sequence[int]) -> list[bytes | Damage]:
    rows = await db.rows("last_events", runs=list(runs)) if runs else []
    found = {run: newest_of(*rest) for run, *rest in rows}
    if len(found) != len(set(runs)):
        raise UnknownRunError(
            f"The newest events of {len(runs)} runs were asked for, but only {len(found)} of them exist. "
            f"Ask only for keys that this database has given."
        )
    return [found[run] for run in runs]


async def mail(db: Database, worker: int) -> list[Mail]:
    return [Mail(*row) for row in await db.rows("mail", worker=worker)]


async def owned(db: Database, worker: int) -> list[tuple[int, int]]:
    return [(run, epoch) for run, epoch in await db.rows("owned", worker=worker)]


async def workers(db: Database) -> list[WorkerRow]:
    return [worker_row(row) for row in await db.rows("workers")]


async def suspects(db: Database, host: str, lapsed_before: float) -> list[WorkerRow]:
    rows = await db.rows("suspects", host=host, lapsed_before=float(lapsed_before))
    return [worker_row(row) for row in rows]


async def crowd(db: Database) -> int:
    return int(await db.value("crowd"))
