"""The reading verbs of the Store protocol, on the reader's connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from perdure.errors import UnknownRunError
from perdure.storage.chain import Damage, Proof, first_of, link, newest_of, origin, over, unreadable
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


def bindings_of(filter: RunFilter) -> dict[str, Value]:
    """What the queries that find runs are given."""
    return {
        "statuses": as_json(filter.statuses) if filter.statuses else None,
        "workflow": filter.workflow,
        "text": filter.text,
        "since": filter.since,
        "before": filter.before,
        "limit": filter.limit,
        "errands": filter.errands,
    }


def find(db: Database, filter: RunFilter) -> list[RunRow]:
    bindings = bindings_of(filter)
    bounds = (filter.unpatched, filter.until, filter.floor, filter.among, filter.within)
    if filter.attributes or any(bound is not None for bound in bounds):
        db.begin("BEGIN")
        keys = find_keys(db, filter, bindings)
        rows = run_rows(db.rows("rows_by_key", {"runs": as_json(keys)}))
        db.commit()
        return rows
    if filter.parent is None:
        return run_rows(db.rows("find", bindings))
    return run_rows(db.rows("find_children", {**bindings, "parent": filter.parent}))


def events(db: Database, run: int, after: int, limit: int) -> list[tuple[int, bytes]]:
    page, last = _page(db, run, after, limit)
    if last in (None, after + len(page)):
        return list(enumerate(page, after + 1))
    return db.rows("events_by_row", {"run": run, "after": after, "limit": limit})  # some are missing


def load(db: Database, runs: Sequence[int]) -> list[History]:
    try:
        return _load(db, runs)
    except (apsw.CorruptError, UnicodeDecodeError) as error:
        db.roll_back()
        if len(runs) == 1:
            return [History(runs[0], (), (), damage=unreadable(error))]
    return [history for run in runs for history in load(db, [run])]


def _load(db: Database, runs: Sequence[int]) -> list[History]:
    # One transaction, so that an item isn't seen both in the history and in the inbox, or in neither.
    db.begin("BEGIN")
    details: dict[int, list[Detail]] = {}
    for run, *detail in db.rows("details", {"runs": as_json(runs)}):
        details.setdefault(run, []).append(Detail(*detail))
    said = {row[0]: row[1:] for row in db.rows("proofs", {"runs": as_json(runs)})}
    histories = [_history(db, run, said.get(run), details.get(run, ())) for run in runs]
    db.commit()
    return histories


def _history(db: Database, run: int, said: Sequence[Any] | None, details: Sequence[Detail]) -> History:
    if said is None:
        return History(run, (), (), details)
    events, sound = _events(db, run, *said)
    damage = None if sound else _damage(db, run, *said)
    return History(run, events, mail_rows(db.rows("inbox", {"run": run})), details, damage)


def _events(
    db: Database,
    run: int,
    id: str,
    generation: int,
    seq: int,
    chain: int,
    checkpoint: int | None,
    link_there: int | None,
) -> tuple[list[bytes], bool]:
    """What a replay reads, and whether it is all that was recorded."""
    found: list[bytes] = []
    value, after, sound = origin(id, generation), 0, True
    if checkpoint:
        for first_link, data in db.rows("first_event", {"run": run}):
            found, sound = [data], link(value, data) == first_link
        sound, value, after = sound and bool(found) and link_there is not None, link_there or 0, checkpoint
    while True:
        page, last = _page(db, run, after, _PAGE)
        value = over(value, page)
        after += len(page)
        found = found + page if found else page
        if page and last != after:
            return found, False
        if len(page) < _PAGE:
            return found, sound and after == seq and value == chain


def _damage(
    db: Database, run: int, id: str, generation: int, seq: int, chain: int, checkpoint: int | None, *_: Any
) -> Damage:
    """What is wrong with a history."""
    proof = Proof(id, generation, seq, chain)
    after = 0
    while page := db.rows("linked_events", {"run": run, "after": after, "limit": _PAGE}):
        for place, its_link, data in page:
            proof.feed(place, its_link, data)
            after = place
    return first_of(proof.finish(), checkpoint)


def _page(db: Database, run: int, after: int, limit: int) -> tuple[list[bytes], int | None]:
    """Events, and the seq of the last of them."""
    bindings = {"run": run, "after": after, "limit": limit}
    try:
        ((text, last),) = db.rows("events", bindings)
        return from_hex(text), last
    except apsw.TooBigError:
        rows = db.rows("events_by_row", bindings)
        return [data for _, data in rows], rows[-1][0] if rows else None


def last_event(db: Database, runs: Sequence[int]) -> list[bytes | Damage]:
    found = db.rows("last_events", {"runs": as_json(runs)})
    if len(found) != len(runs):
        raise UnknownRunError(
            f"The newest events of {len(runs)} runs were asked for, but only {len(found)} of them exist. "
            f"Ask only for keys that this database has given."
        )
    return [newest_of(*row) for row in found]


def mail(db: Database, worker: int) -> list[Mail]:
    return mail_rows(db.rows("mail", {"worker": worker}))


def owned(db: Database, worker: int) -> list[tuple[int, int]]:
    return db.rows("owned", {"worker": worker})


def workers(db: Database) -> list[WorkerRow]:
    return [worker_row(row) for row in db.rows("workers")]


def suspects(db: Database, host: str, lapsed_before: float) -> list[WorkerRow]:
    found = db.rows("suspects", {"host": host, "lapsed_before": lapsed_before})
    return [worker_row(row) for row in found]


def crowd(db: Database) -> int:
    return int(db.value("crowd"))
