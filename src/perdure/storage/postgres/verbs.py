"""The writing verbs of the Store protocol but append, inside a transaction.

Other transactions run at the same time, so what a verb relies on it locks: the worker it makes an owner, the fleet
when code comes or runs are blocked for want of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import errors

from perdure.core.bounds import INBOX_MAX
from perdure.storage.generations import following, gone
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.due import lock_due
from perdure.storage.postgres.ledger import spare
from perdure.storage.postgres.lifecycle import create_runs, post, terminate_run
from perdure.storage.postgres.lines import claim_limited, queue_states
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.rows import new_key, rows_by_key, run_rows
from perdure.storage.postgres.suspects import claim_suspected
from perdure.storage.postgres.versions import strand_pinned
from perdure.storage.reasons import no_worker_knows, took_workers_down
from perdure.storage.records import Claimed, Created, Delivery, NewMail, NewRun, RunRow, same_work, worst_of
from perdure.storage.workers import Heartbeat, WorkerRow

#: How many runs `strand` blocks in one go, so that it doesn't hold other transactions up.
_STRAND_LIMIT = 1000


async def create(db: Database, runs: Sequence[NewRun]) -> list[Created]:
    made = await create_runs(db, runs, [run.parent for run in runs])
    meant = await _rows_meant(db, runs)
    answers = [Delivery.DELIVERED] * len(runs)
    if any(run.mail and new is None for run, new in zip(runs, made, strict=True)):
        for place, (run, (row, alike)) in enumerate(zip(runs, meant, strict=True)):
            if made[place] is None and run.attach and (same_work(run, row) or alike):
                key = await lock_newest(db, row.id)
                if key is None:
                    raise _removed(row.id)
                answers[place] = await _post_all(db, key, row, run)
        meant = await _rows_meant(db, runs)
    return [
        Created(row, new is not None, said, alike)
        for (row, alike), new, said in zip(meant, made, answers, strict=True)
    ]


async def _rows_meant(db: Database, runs: Sequence[NewRun]) -> list[tuple[RunRow, bool]]:
    """The rows that starts mean, by their ids or else by their dedup, and whether they have that dedup."""
    found = await rows_by_id(db, [run.id for run in runs])
    meant: list[tuple[RunRow, bool]] = []
    for run in runs:
        row, dedup = found.get(run.id), run.dedup
        if run.follows is not None:
            dedup = following(run, await db.rows("ties", run=run.follows)).dedup
        if (
            row is None or row.run == run.follows
        ):  # perhaps nothing follows that since another run has the dedup
            holder = await db.value("dedup_holder", dedup=dedup)
            row = next(iter(await rows_by_key(db, [holder])), row)
        if row is None and run.follows is not None:
            raise gone(run.id)
        if row is None:  # else it was made, or has the id or the dedup of another
            raise _removed(run.id)
        alike = dedup is not None and await db.value("dedup_of", run=row.run) == dedup
        meant.append((row, alike))
    return meant


def _removed(id: str) -> errors.SerializationFailure:
    """A run whose id was taken when this began was removed since: the whole transaction is to be done again."""
    return errors.SerializationFailure(f"run {id!r} was removed meanwhile")


async def _post_all(db: Database, key: int, row: RunRow, run: NewRun) -> Delivery:
    if row.ended_at is None and row.mail + len(run.mail) > INBOX_MAX:
        return Delivery.INBOX_FULL
    return worst_of([await post(db, key, item, run.created_at) for item in run.mail])


async def rows_by_id(db: Database, ids: Sequence[str]) -> dict[str, RunRow]:
    return {row.id: row for row in run_rows(await db.rows("rows_by_id", ids=list(ids)))}


async def send(db: Database, id: str, item: NewMail, now: float) -> Delivery:
    run = await lock_newest(db, id)
    return Delivery.UNKNOWN_RUN if run is None else await post(db, run, item, now)


async def terminate(db: Database, id: str, event: bytes, now: float) -> Delivery:
    run = await lock_newest(db, id)
    if run is None:
        return Delivery.UNKNOWN_RUN
    return Delivery.DELIVERED if await terminate_run(db, run, event, now) else Delivery.RUN_ENDED


async def idle_until(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    now: float,
    suspected: float | None,
) -> tuple[bool, float | None, float | None]:
    """Whether a claim may find something; if not, when the next run is due; since when a suspected one is."""
    if not workflows or not queues:
        return False, None, None
    fitting = {"worker": worker, "queues": list(queues), "workflows": list(workflows)}
    moments = {"now": float(now), "suspected": None if suspected is None else float(suspected)}
    ((worthwhile, next_at, since),) = await db.rows("idle_until", **moments, **fitting)
    return bool(worthwhile), next_at, since


async def claim(
    db: Database,
    worker: int,
    workflows: Sequence[str],
    queues: Sequence[str],
    now: float,
    limit: int,
    suspected: float | None,
) -> Claimed:
    locked = await db.rows("lock_worker", worker=worker, queues=list(queues), now=float(now))
    if not locked or not workflows or not queues:
        return Claimed([], None)
    ((special, since, tried),) = locked
    if suspected is not None and since is not None and since <= suspected and not tried:
        states = await queue_states(db, special) if special else []
        upto, at = float(suspected), float(now)
        found = await claim_suspected(db, worker, workflows, queues, states, upto, at, limit)
        if found:
            return Claimed(await rows_by_key(db, found), at, suspected=since)
    if special:
        return await claim_limited(db, worker, workflows, queues, special, since, float(now), limit)
    fitting: dict[str, Any] = {"worker": worker, "queues": list(queues), "workflows": list(workflows)}
    now = float(now)
    due = await lock_due(db, worker, workflows, queues, now, limit)
    rows: list[RunRow] = []
    if due:
        claimed = {row.run: row for row in run_rows(await db.rows("claim", worker=worker, now=now, runs=due))}
        rows = [claimed[run] for run in due]
    return Claimed(rows, await db.value("next_at", **fitting), suspected=since)


async def register(db: Database, worker: WorkerRow, now: float, schema: int) -> int:
    await db.rows("lock_fleet")
    id = new_key()
    fitting = {"queues": list(worker.queues), "workflows": list(worker.workflows)}
    await db.run(
        "register",
        id=id,
        name=worker.name,
        host=worker.host,
        pid=worker.pid,
        born=worker.born,
        started_at=float(worker.started_at),
        lease_until=float(worker.lease_until),
        heard_at=float(worker.heard_at),
        version=worker.version,
        code=worker.code,
        schema=schema,
        **fitting,
    )
    await _unblock(db, id, worker.queues, worker.workflows, now)
    return id


async def _unblock(
    db: Database, worker: int, queues: Sequence[str], workflows: Sequence[str], now: float
) -> None:
    if queues and workflows:
        await db.run("unblock", worker=worker, queues=list(queues), workflows=list(workflows), now=float(now))


async def heartbeat(db: Database, worker: int, beat: Heartbeat) -> bool:
    told = msgspec.structs.asdict(beat)
    told.update(lease_until=float(beat.lease_until), heard_at=float(beat.heard_at))
    return await db.run("heartbeat", worker=worker, **told) == 1


async def announce(db: Database, worker: int, workflows: Sequence[str], now: float) -> None:
    await db.rows("lock_fleet")
    for (queues,) in await db.rows("announce", worker=worker, workflows=list(workflows)):
        await _unblock(db, worker, queues, workflows, now)


async def bury(db: Database, worker: int, seen_lease: float, now: float, max_recoveries: int) -> int | None:
    if await db.run("bury", worker=worker, seen_lease=float(seen_lease)) == 0:
        return None
    await spare(db, worker)
    for run, recoveries in await db.rows("poisoned", worker=worker, max_recoveries=max_recoveries):
        reason = took_workers_down(recoveries)
        await db.run("block_poisoned", run=run, recoveries=recoveries, now=float(now), reason=reason)
    return await db.run("release_all", worker=worker, now=float(now), count=1)


async def retire(db: Database, worker: int, now: float) -> None:
    await db.run("retire", worker=worker)
    await spare(db, worker)
    await db.run("release_all", worker=worker, now=float(now), count=0)


async def any_stranded(db: Database, now: float) -> bool:
    """Whether there is something to strand; mostly there isn't, and then no transaction is needed."""
    for query in ("stranded", "stranded_in_line", "stranded_pinned"):
        if await db.rows(query, now=float(now), limit=1):
            return True
    return False


async def strand(db: Database, now: float) -> int:
    now = float(now)
    await db.rows("lock_fleet")
    blocked = await strand_pinned(db, now, _STRAND_LIMIT)
    stranded = await db.rows("stranded", now=now, limit=_STRAND_LIMIT)
    stranded += await db.rows("stranded_in_line", now=now, limit=_STRAND_LIMIT)
    for run, workflow, queue in stranded:
        reason = no_worker_knows(workflow, queue)
        blocked += await db.run("block_stranded", run=run, now=float(now), reason=reason)
    return blocked
