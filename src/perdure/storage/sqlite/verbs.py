"""The writing verbs of the Store protocol but append, inside a transaction of the writer.

Each takes the database and the verb's arguments and returns its answer. They needn't recognise a repeat
of themselves: the writer marks their transactions, and knows after a failed commit whether it happened.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.core.bounds import INBOX_MAX
from perdure.storage.generations import following, gone
from perdure.storage.reasons import no_worker_knows, took_workers_down
from perdure.storage.records import Claimed, Created, Delivery, NewMail, NewRun, RunRow, same_work, worst_of
from perdure.storage.sqlite.claimed import claimed_rows
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.ledger import spare
from perdure.storage.sqlite.lifecycle import create_run, create_runs, post, terminate_run
from perdure.storage.sqlite.lines import claim_limited, queue_states
from perdure.storage.sqlite.rows import as_json, run_rows
from perdure.storage.sqlite.suspects import claim_suspected
from perdure.storage.sqlite.versions import strand_pinned
from perdure.storage.workers import Heartbeat, WorkerRow

#: How many runs `strand` blocks in one go, so that it doesn't hold other commits up.
_STRAND_LIMIT = 1000


def create(db: Database, runs: Sequence[NewRun]) -> list[Created]:
    if len(runs) == 1 or any(run.follows is not None for run in runs):
        new = [create_run(db, run, run.parent) is not None for run in runs]
    else:
        new = create_runs(db, runs)
    rows = _rows_meant(db, runs)
    answers = [Delivery.DELIVERED] * len(runs)
    if any(run.mail and not made for run, made in zip(runs, new, strict=True)):
        for place, (run, (row, alike)) in enumerate(zip(runs, rows, strict=True)):
            if not new[place] and run.attach and (same_work(run, row) or alike):
                answers[place] = _post_all(db, row, run)
        rows = _rows_meant(db, runs)
    return [
        Created(row, made, said, alike) for (row, alike), made, said in zip(rows, new, answers, strict=True)
    ]


def _rows_meant(db: Database, runs: Sequence[NewRun]) -> list[tuple[RunRow, bool]]:
    """The rows that starts mean, by their ids or else by their dedup, and whether they have that dedup."""
    found = rows_by_id(db, [run.id for run in runs])
    meant: list[tuple[RunRow, bool]] = []
    for run in runs:
        row, dedup = found.get(run.id), run.dedup
        if run.follows is not None:
            dedup = following(run, db.rows("ties", {"run": run.follows})).dedup
        if (
            row is None or row.run == run.follows
        ):  # perhaps nothing follows that since another run has the dedup
            holder = db.value("dedup_holder", {"dedup": dedup})
            row = next(iter(run_rows(db.rows("rows_by_key", {"runs": as_json([holder])}))), row)
        if row is None and run.follows is not None:
            raise gone(run.id)
        assert row is not None, "it was made, or has the id or the dedup of another"
        alike = dedup is not None and db.value("dedup_of", {"run": row.run}) == dedup
        meant.append((row, alike))
    return meant


def _post_all(db: Database, row: RunRow, run: NewRun) -> Delivery:
    if row.ended_at is None and row.mail + len(run.mail) > INBOX_MAX:
        return Delivery.INBOX_FULL
    return worst_of([post(db, row.run, item, run.created_at) for item in run.mail])


def rows_by_id(db: Database, ids: Sequence[str]) -> dict[str, RunRow]:
    return {row.id: row for row in run_rows(db.rows("rows_by_id", {"ids": as_json(ids)}))}


def send(db: Database, id: str, item: NewMail, now: float) -> Delivery:
    run = _key_of(db, id)
    return Delivery.UNKNOWN_RUN if run is None else post(db, run, item, now)


def terminate(db: Database, id: str, event: bytes, now: float) -> Delivery:
    row = rows_by_id(db, [id]).get(id)
    if row is None:
        return Delivery.UNKNOWN_RUN
    if row.ended_at is not None:
        return Delivery.RUN_ENDED
    terminate_run(db, row.run, event, now)
    return Delivery.DELIVERED


def _key_of(db: Database, id: str) -> int | None:
    for key, *_ in db.rows("key_of", {"id": id}):
        assert isinstance(key, int)
        return key
    return None


def claim(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    now: float,
    limit: int,
    suspected: float | None = None,
) -> Claimed:
    asked: dict[str, Value] = {"worker": worker, "queues": as_json(queues), "now": now}
    ((may, special, since, tried),) = db.rows("may_claim", asked)
    if not may:
        return Claimed([], None)
    states = queue_states(special)
    if suspected is not None and since is not None and since <= suspected and not tried:
        found = claim_suspected(db, worker, workflows, queues, states, suspected, now, limit)
        if found:
            return Claimed(claimed_rows(db, found), now, suspected=since)
    if states:
        return claim_limited(db, worker, workflows, queues, states, since, now, limit)
    fitting: dict[str, Value] = {
        "queues": as_json(queues),
        "workflows": as_json(workflows),
        "worker": worker,
    }
    due = db.rows("due", {**fitting, "now": now, "limit": limit})
    rows: list[RunRow] = []
    if due:
        runs = as_json([run for (run,) in due])
        db.run("claim", {"worker": worker, "now": now, "runs": runs})
        rows = claimed_rows(db, [run for (run,) in due])
    return Claimed(rows, db.value("next_at", fitting), suspected=since)


def register(db: Database, worker: WorkerRow, now: float, schema: int) -> int:
    fitting = {"queues": as_json(worker.queues), "workflows": as_json(worker.workflows)}
    ((worker_id,),) = db.rows(
        "register",
        {
            "name": worker.name,
            "host": worker.host,
            "pid": worker.pid,
            "born": worker.born,
            "started_at": worker.started_at,
            "lease_until": worker.lease_until,
            "heard_at": worker.heard_at,
            "version": worker.version,
            "code": worker.code,
            "schema": schema,
            **fitting,
        },
    )
    db.run("unblock", {**fitting, "worker": worker_id, "now": now})
    assert isinstance(worker_id, int)
    return worker_id


def heartbeat(db: Database, worker: int, beat: Heartbeat) -> bool:
    return db.run("heartbeat", {"worker": worker, **msgspec.structs.asdict(beat)}) == 1


def announce(db: Database, worker: int, workflows: Sequence[str], now: float) -> None:
    known = as_json(workflows)
    for (queues,) in db.rows("announce", {"worker": worker, "workflows": known}):
        db.run("unblock", {"queues": queues, "workflows": known, "worker": worker, "now": now})


def bury(db: Database, worker: int, seen_lease: float, now: float, max_recoveries: int) -> int | None:
    if db.run("bury", {"worker": worker, "seen_lease": seen_lease}) == 0:
        return None
    spare(db, worker)
    poisoned = db.rows("poisoned", {"worker": worker, "max_recoveries": max_recoveries})
    for run, recoveries in poisoned:
        reason = took_workers_down(recoveries)
        db.run("block_poisoned", {"run": run, "recoveries": recoveries, "now": now, "reason": reason})
    return _release_all(db, worker, now, count=1)


def retire(db: Database, worker: int, now: float) -> None:
    db.run("retire", {"worker": worker})
    spare(db, worker)
    _release_all(db, worker, now, count=0)


def _release_all(db: Database, worker: int, now: float, *, count: int) -> int:
    """Make the runs a worker still owns due; `count` is added to their recoveries."""
    return db.run("release_all", {"worker": worker, "now": now, "count": count})


def strand(db: Database, now: float) -> int:
    bounds: dict[str, Value] = {"now": now, "limit": _STRAND_LIMIT}
    stranded = db.rows("stranded", bounds) + db.rows("stranded_in_line", bounds)
    for run, workflow, queue in stranded:
        reason = no_worker_knows(workflow, queue)
        db.run("block_stranded", {"run": run, "now": now, "reason": reason})
    return len(stranded) + strand_pinned(db, now, _STRAND_LIMIT)
