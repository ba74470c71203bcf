"""The reading verbs of the Store protocol, on the reader's connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from perdure.errors import UnknownRunError
from perdure.storage.records import Detail, History, Mail, RunFilter, RunRow
from perdure.storage.sqlite.attributes import find_keys
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json, from_hex, mail_rows, run_rows, worker_row
from perdure.storage.sqlite.verbs import rows_by_id
from perdure.storage.workers import WorkerRow

_PAGE = 1000


def get(db: Database, ids: Sequence[str]) -> list[RunRow | None]:
    rows = rows_by_id(db, ids)
    return [rows.get(name) for name in ids]


def inbox(db: Database, run: int) -> list[Mail]:
    return mail_rows(db.rows("inbox", {"run": run}))


def generation(db: Database, id: str, number: int) -> RunRow | None:
    return next(iter(run_rows(db.rows("generation", {"id": id, "generation": number}))), None)


def find(db: Database, filter: RunFilter) -> list[RunRow]:
    bindings: dict[str, Value] = {
        "statuses": as_json(filter.statuses) if filter.statuses else None,
        "workflow": filter.workflow,
        "text": filter.text,
        "since": filter.since,
        "before": filter.before,
        "limit": filter.limit,
        "errands": filter.errands,
    }
    if filter.attributes or filter.unpatched is not None:
        db.begin("BEGIN")
        keys = find_keys(db, filter, bindings)
        rows = run_rows(db.rows("rows_by_key", {"runs": as_json(keys)}))
        db.commit()
        return rows
    if filter.parent is None:
        return run_rows(db.rows("find", bindings))
    return run_rows(db.rows("find_children", {**bindings, "parent": filter.parent}))


def events(db: Database, run: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    return list(enumerate(_page(db, run, after, limit), after + 1))


def load(db: Database, runs: Sequence[int]) -> list[History]:
    # One transaction, so that an item isn't seen both in the history and in the inbox, or in neither.
    db.begin("BEGIN")
    details: dict[int, list[Detail]] = {}
    for run, *detail in db.rows("details", {"runs": as_json(runs)}):
        details.setdefault(run, []).append(Detail(*detail))
    checkpoints: dict[Any, int] = dict(db.rows("checkpoints", {"runs": as_json(runs)}))
    histories = [
        History(
            run,
            _history(db, run, checkpoints.get(run)),
            mail_rows(db.rows("inbox", {"run": run})),
            details.get(run, ()),
        )
        for run in runs
    ]
    db.commit()
    return histories


def _history(db: Database, run: int, checkpoint: int | None) -> list[bytes]:
    found = _page(db, run, 0, 1) if checkpoint else []
    after = checkpoint or 0
    while True:
        page = _page(db, run, after, _PAGE)
        found = found + page if found else page
        after += len(page)
        if len(page) < _PAGE:
            return found


def _page(db: Database, run: int, after: int, limit: int) -> list[bytes]:
    bindings = {"run": run, "after": after, "limit": limit}
    try:
        return from_hex(db.value("events", bindings))
    except apsw.TooBigError:
        return [data for (data,) in db.rows("events_by_row", bindings)]


def last_event(db: Database, runs: Sequence[int]) -> list[bytes]:
    found = db.rows("last_events", {"runs": as_json(runs)})
    if len(found) != len(runs):
        raise UnknownRunError(
            f"The newest events of {len(runs)} runs were asked for, but only {len(found)} of them exist. "
            f"Ask only for keys that this database has given."
        )
    return [data for (data,) in found]


def mail(db: Database, worker: int) -> list[Mail]:
    return mail_rows(db.rows("mail", {"worker": worker}))


def owned(db: Database, worker: int) -> list[tuple[int, int]]:
    return [(run, epoch) for run, epoch in db.rows("owned", {"worker": worker})]


def workers(db: Database) -> list[WorkerRow]:
    return [worker_row(row) for row in db.rows("workers")]


def suspects(db: Database, host: str, lapsed_before: float) -> list[WorkerRow]:
    found = db.rows("suspects", {"host": host, "lapsed_before": lapsed_before})
    return [worker_row(row) for row in found]


def crowd(db: Database) -> int:
    return int(db.value("crowd"))
