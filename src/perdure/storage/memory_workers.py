"""Workers in a memory database: their leases, the runs that they claim, and what becomes of those that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from perdure.core.status import Status
from perdure.core.suspicion import SUSPECTED
from perdure.storage.lines import Plan
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_ledger import spare
from perdure.storage.memory_queues import admit, enter_lines, next_in_lines, states_of
from perdure.storage.memory_run import Run
from perdure.storage.memory_suspects import being_tried, suspects, waiting_since
from perdure.storage.memory_versions import may_drive, serves
from perdure.storage.reasons import no_worker_knows, no_worker_of_version, took_workers_down
from perdure.storage.records import BlockCode, Claimed, Mail
from perdure.storage.workers import Heartbeat, WorkerRow

_STRAND_LIMIT = 1000


class MemoryWorkers:
    """The part of a memory store that workers use."""

    if TYPE_CHECKING:

        def _open_database(self) -> MemoryDatabase: ...
        def _changed(self) -> None: ...

    # -- whose runs are whose -----------------------------------------------------------------------

    async def claim(
        self,
        worker: int,
        *,
        workflows: Sequence[str],
        queues: Sequence[str],
        now: float,
        limit: int,
        suspected: float | None = None,
    ) -> Claimed:
        db = self._open_database()
        if worker not in db.workers or db.move is not None:
            return Claimed([], None)
        states = states_of(db, queues)
        since = waiting_since(db, now)
        if suspected is not None and since is not None and since <= suspected and not being_tried(db, now):
            tried = suspects(db, worker, workflows, Plan(queues, states, (), limit, now), suspected, limit)
            for key in tried:
                _own(db, worker, key, now)
            if tried:
                self._changed()
                return Claimed([db.row(db.runs[key]) for key in tried], now, suspected=since)
        plan = Plan(queues, states, enter_lines(db, states, workflows, now), limit, now)
        taken: list[int] = []

        def take(names: Sequence[str], most: int) -> int:
            due = [key for at, key in _fitting(db, worker, workflows, names) if at <= now][: max(most, 0)]
            for key in due:
                _own(db, worker, key, now)
            taken.extend(due)
            return len(due)

        plan.took(take(plan.plain, plan.due()), due=True)
        plan.took(take(plan.back, plan.due()), due=True)
        for state in plan.narrow:
            owned = sum(run.owner == worker and run.queue == state.name for run in db.runs.values())
            plan.owns_more(state, take([state.name], plan.owns(state, owned)))
        for state in plan.lines:
            for key in admit(db, plan, state, workflows):
                _own(db, worker, key, now)
                taken.append(key)
        if taken:
            self._changed()
        left = _fitting(db, worker, workflows, plan.looks_ahead_in())
        next_at = plan.next_at(left[0][0] if left else None, next_in_lines(db, plan.limited, workflows))
        return Claimed([db.row(db.runs[key]) for key in taken], next_at, plan.waits, since)

    async def mail(self, worker: int) -> list[Mail]:
        db = self._open_database()
        items = [item for run in db.runs.values() if run.owner == worker for item in db.mail_of(run)]
        return sorted(items, key=lambda item: item.id)

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        db = self._open_database()
        return [(run.run, run.epoch) for run in db.runs.values() if run.owner == worker]

    # -- who is there -------------------------------------------------------------------------------

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        db = self._open_database()
        db.last_worker += 1
        db.workers[db.last_worker] = msgspec.structs.replace(worker, id=db.last_worker)
        _unblock(db, db.workers[db.last_worker], now)
        self._changed()
        return db.last_worker

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        db = self._open_database()
        row = db.workers.get(worker)
        if row is None:
            return False
        db.workers[worker] = msgspec.structs.replace(row, **msgspec.structs.asdict(beat))
        self._changed()
        return True

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        db = self._open_database()
        row = db.workers.get(worker)
        if row is not None:
            db.workers[worker] = msgspec.structs.replace(row, workflows=workflows)
            _unblock(db, db.workers[worker], now)
            self._changed()

    async def workers(self) -> list[WorkerRow]:
        return list(self._open_database().workers.values())

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        return [row for row in await self.workers() if row.host == host or row.lease_until < lapsed_before]

    async def crowd(self) -> int:
        return len(self._open_database().workers)

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        db = self._open_database()
        row = db.workers.get(worker)
        if row is None or row.lease_until != seen_lease:
            return None
        del db.workers[worker]
        spare(db, [run.run for run in _owned(db, worker)])
        released = 0
        owned = _owned(db, worker)
        for run in owned:
            run.epoch += 1
            run.recoveries += 1
            if run.recoveries > max_recoveries and len(owned) == 1:
                reason = took_workers_down(run.recoveries)
                _block(run, reason, BlockCode.POISON, now)
            else:
                run.release(now)
                released += 1
        self._changed()
        return released

    async def retire(self, worker: int, *, now: float) -> None:
        db = self._open_database()
        db.workers.pop(worker, None)
        spare(db, [run.run for run in _owned(db, worker)])
        for run in _owned(db, worker):
            run.epoch += 1
            run.release(now)
        self._changed()

    async def strand(self, *, now: float) -> int:
        db = self._open_database()
        served = {
            (queue, workflow)
            for worker in db.workers.values()
            for queue in worker.queues
            for workflow in worker.workflows
        }
        stranded = [
            run
            for run in db.runs.values()
            if run.wake_at is not None
            and run.wake_at <= now
            and run.status != Status.BLOCKED
            and (run.queue, run.workflow) not in served
        ][:_STRAND_LIMIT]
        for run in stranded:
            _block(run, no_worker_knows(run.workflow, run.queue), BlockCode.CODE, now)
        left_alone = [
            run
            for run in db.runs.values()
            if run.wake_at is not None
            and run.wake_at <= now
            and run.status != Status.BLOCKED
            and run.pinned
            and run.version is not None
            and not any(w.version == run.version and serves(w, run) for w in db.workers.values())
        ][:_STRAND_LIMIT]
        for run in left_alone:
            _block(run, no_worker_of_version(run.version or ""), BlockCode.CODE, now)
        if stranded or left_alone:
            self._changed()
        return len(stranded) + len(left_alone)


def _fitting(
    db: MemoryDatabase, worker: int, workflows: Sequence[str], queues: Sequence[str]
) -> list[tuple[float, int]]:
    """Runs that aren't in line and that a worker could drive, by when they are due."""
    found = [
        (run.wake_at, run.run)
        for run in db.runs.values()
        if run.wake_at is not None
        and run.lane is None
        and run.workflow in workflows
        and run.queue in queues
        and run.recoveries < SUSPECTED
        and may_drive(db.workers[worker], run)
    ]
    return sorted(found)


def _own(db: MemoryDatabase, worker: int, key: int, now: float) -> None:
    run = db.runs[key]
    run.owner, run.wake_at = worker, None
    run.epoch += 1
    if not run.pinned or run.version is None:
        run.version = db.workers[worker].version
    run.status, run.reason, run.block_code = Status.RUNNING.value, None, None
    run.updated_at = now
    run.started_at = now if run.started_at is None else run.started_at
    if run.queue in db.queues and db.queues[run.queue].limited:
        run.slot, run.lane, run.rank = True, None, None


def _unblock(db: MemoryDatabase, worker: WorkerRow, now: float) -> None:
    """Make the runs due that waited for a worker like this one."""
    for run in db.runs.values():
        if (
            run.block_code == BlockCode.CODE
            and run.status == Status.BLOCKED
            and run.owner is None
            and serves(worker, run)
            and may_drive(worker, run)
        ):
            run.wake_at = now


def _owned(db: MemoryDatabase, worker: int) -> list[Run]:
    return [run for run in db.runs.values() if run.owner == worker]


def _block(run: Run, reason: str, code: BlockCode, now: float) -> None:
    run.release(None)
    run.status, run.reason, run.block_code = Status.BLOCKED.value, reason, code.value
    run.updated_at = now
