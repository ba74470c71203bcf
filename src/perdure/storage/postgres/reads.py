"""The reading verbs of the Store protocol. Each is one statement, so it sees one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.errors import UnknownRunError
from perdure.storage.postgres.attributes import find_keys
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import run_rows, worker_row
from perdure.storage.postgres.verbs import rows_by_id
from perdure.storage.records import Detail, History, Mail, RunFilter, RunRow
from perdure.storage.workers import WorkerRow


async def get(db: Database, ids: Sequence[str]) -> list[RunRow | None]:
    rows = await rows_by_id(db, ids) if ids else {}
    return [rows.get(name) for name in ids]


async def generation(db: Database, id: str, number: int) -> RunRow | None:
    return next(iter(run_rows(await db.rows("generation", id=id, generation=number))), None)


async def find(db: Database, filter: RunFilter) -> list[RunRow]:
    given: dict[str, Any] = {
        "before": filter.before,
        "parent": filter.parent,
        "statuses": list(filter.statuses) or None,
        "workflow": filter.workflow,
        "text": filter.text,
        "since": None if filter.since is None else float(filter.since),
        "limit": filter.limit,
        "errands": filter.errands,
    }
    if filter.attributes or filter.unpatched is not None:
        keys = await find_keys(db, filter, given)
        return run_rows(await db.rows("rows_by_key", runs=keys)) if keys else []
    return run_rows(await db.rows("find", **given))


async def events(db: Database, run: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    return [(seq, data) for seq, data in await db.rows("events", run=run, after=after, limit=limit)]


async def load(db: Database, runs: Sequence[int]) -> list[History]:
    found: dict[int, tuple[list[bytes], list[Mail], list[Detail]]] = {run: ([], [], []) for run in runs}
    if runs:
        for run, is_mail, number, data, kind in await db.rows("histories", runs=list(runs)):
            history, inbox, _ = found[run]
            if is_mail:
                inbox.append(Mail(number, run, data, kind))
            else:
                history.append(data)
        for run, *detail in await db.rows("details", runs=list(runs)):
            found[run][2].append(Detail(*detail))
    return [History(run, *found[run]) for run in runs]


async def inbox(db: Database, run: int) -> list[Mail]:
    return [Mail(*row) for row in await db.rows("inbox", run=run)]


async def last_event(db: Database, runs: Sequence[int]) -> list[bytes]:
    found: dict[int, bytes] = dict(await db.rows("last_events", runs=list(runs))) if runs else {}
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
