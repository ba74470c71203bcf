"""MemoryStore: runs in a dictionary, for tests and for `memory:` urls. Nothing survives the process.

It keeps every promise of the protocol but durability: verbs run to their end within one turn of the
event loop, so each is a transaction by itself. Stores that share a MemoryDatabase act like processes on
one file: each hears of the others' changes through on_change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.core.bounds import INBOX_MAX
from perdure.core.errands import step_of
from perdure.errors import StoreUnavailableError, UnknownRunError
from perdure.storage.chain import Damage
from perdure.storage.changes import Change, OnChange, ends_alone
from perdure.storage.generations import following, gone
from perdure.storage.memory_attributes import MemoryAttributes, holds
from perdure.storage.memory_budgets import MemoryBudgets
from perdure.storage.memory_callbacks import MemoryCallbacks
from perdure.storage.memory_checkpoints import MemoryCheckpoints
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_disk import MemoryDisk
from perdure.storage.memory_entities import MemoryEntities
from perdure.storage.memory_handlers import MemoryInquiries, MemoryUpdates
from perdure.storage.memory_keys import MemoryKeys
from perdure.storage.memory_ledger import MemoryLedger
from perdure.storage.memory_limits import MemoryLimits
from perdure.storage.memory_moving import MemoryMoving
from perdure.storage.memory_namespaces import MemoryNamespaces
from perdure.storage.memory_pauses import MemoryPauses
from perdure.storage.memory_publications import MemoryPublications
from perdure.storage.memory_queues import MemoryQueues, with_dedup
from perdure.storage.memory_quotas import MemoryQuotas
from perdure.storage.memory_resealing import MemoryResealing
from perdure.storage.memory_retention import MemoryRetention
from perdure.storage.memory_run import Run
from perdure.storage.memory_schedules import MemorySchedules
from perdure.storage.memory_streams import MemoryStreams
from perdure.storage.memory_survey import MemorySurvey
from perdure.storage.memory_unbegun import MemoryUnbegun
from perdure.storage.memory_workers import MemoryWorkers
from perdure.storage.records import (
    Append,
    Appended,
    Created,
    Delivery,
    History,
    Mail,
    MailKind,
    NewMail,
    NewRun,
    RunFilter,
    RunRow,
    Stale,
    same_work,
    worst_of,
)

__all__ = ["MemoryDatabase", "MemoryStore"]


class MemoryStore(MemoryWorkers):
    """Runs in memory.

    Args:
        shared: a database that several stores use at the same time; a new one by default.
    """

    def __init__(self, shared: MemoryDatabase | None = None) -> None:
        self._db = MemoryDatabase() if shared is None else shared
        self._loop: asyncio.AbstractEventLoop
        self._on_change: OnChange | None = None
        self._untold: Change | None = None
        self.updates = MemoryUpdates(self._open_database, self._changed)
        self.inquiries = MemoryInquiries(self._open_database, self._changed)
        self._is_open = False
        self.schedules = MemorySchedules(self._open_database, self._changed)
        self.limits = MemoryLimits(self._open_database)
        self.quotas = MemoryQuotas(self._open_database)
        self.checkpoints = MemoryCheckpoints(lambda: self._open_database().checkpoints)
        self.keys = MemoryKeys(self._open_database)
        self.resealing = MemoryResealing()
        self.ledger = MemoryLedger(self._open_database, self._changed)
        self.budgets = MemoryBudgets(self._open_database, self._changed)
        self.callbacks = MemoryCallbacks(self._open_database, self._changed)
        self.publications = MemoryPublications(self._open_database, self._changed)
        self.pauses = MemoryPauses(self._open_database, self._changed)
        self.moving = MemoryMoving(self._open_database, self._changed)
        self.namespaces = MemoryNamespaces(self._open_database)
        self.entities = MemoryEntities(self._open_database)
        self.unbegun = MemoryUnbegun(self._open_database, self._changed)
        self.queues = MemoryQueues(self._open_database, self._changed)
        self.streams = MemoryStreams(self._open_database, self._changed)
        self.survey = MemorySurvey(self._open_database, self.find)
        self.retention = MemoryRetention(self._open_database)
        self.disk = MemoryDisk(self._open_database)
        self.attributes = MemoryAttributes(self._open_database, self._changed)

    async def open(self, on_change: OnChange | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._db.listeners.append(self._hear)
        self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._db.listeners.remove(self._hear)

    def _hear(self, change: Change) -> None:
        """Another store has changed something."""
        if self._on_change is not None and self._untold is None:
            self._loop.call_soon(self._tell)
        self._untold = change.beside(self._untold)

    def _tell(self) -> None:
        change, self._untold = self._untold, None
        if change is not None and self._on_change is not None and self._is_open:
            self._on_change(change)

    def _open_database(self) -> MemoryDatabase:
        if not self._is_open:
            raise StoreUnavailableError(
                "The memory store can't be used: it isn't open. Await store.open() first, and don't use it "
                "after store.close()."
            )
        return self._db

    def _changed(self, change: Change = Change.ANYTHING) -> None:
        """Tell the other stores. Only after true changes, or two stores could keep each other busy."""
        for listener in self._db.listeners:
            if listener != self._hear:
                listener(change)

    # -- clients ------------------------------------------------------------------------------------

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        db = self._open_database()
        made = [db.create(run, run.parent) is not None for run in runs]
        meant = [_meant(db, run) for run in runs]
        answers = [
            Delivery.DELIVERED if fresh else _post_all(db, run, row, alike)
            for run, fresh, (row, alike) in zip(runs, made, meant, strict=True)
        ]
        if any(made) or any(run.mail or run.dedup is not None for run in runs):
            self._changed()
        return [
            Created(db.row(row), fresh, said, alike)
            for (row, alike), fresh, said in zip(meant, made, answers, strict=True)
        ]

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        db = self._open_database()
        run = db.find_id(id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        answer = db.post(run, NewMail(data, kind, key), now)
        if answer is Delivery.DELIVERED:
            self._changed()
        return answer

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        db = self._open_database()
        run = db.find_id(id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        if run.ended:
            return Delivery.RUN_ENDED
        db.terminate(run, event, now)
        self._changed()
        return Delivery.DELIVERED

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        db = self._open_database()
        return [None if run is None else db.row(run) for run in map(db.find_id, ids)]

    async def inbox(self, run: int) -> list[Mail]:
        db = self._open_database()
        return db.mail_of(db.runs[run]) if run in db.runs else []

    async def generation(self, id: str, number: int) -> RunRow | None:
        db = self._open_database()
        run = db.find_generation(id, number)
        return None if run is None else db.row(run)

    async def find(self, filter: RunFilter) -> list[RunRow]:
        db = self._open_database()
        found: list[RunRow] = []
        for run in reversed(db.runs.values()):
            if len(found) >= filter.limit:
                break
            if run.next is None and _matches(filter, run):
                found.append(db.row(run))
        return found

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        db = self._open_database()
        history = db.runs[run].events if run in db.runs else []
        return list(enumerate(history[after : after + limit], after + 1))

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        db = self._open_database()
        unknown = [run for run in runs if run not in db.runs]
        if unknown:
            raise UnknownRunError(
                f"The newest events of {len(runs)} runs were asked for, but {len(unknown)} of them don't "
                f"exist. Ask only for keys that this database has given."
            )
        return [db.runs[run].newest for run in runs]

    # -- drivers ------------------------------------------------------------------------------------

    async def load(self, runs: Sequence[int]) -> list[History]:
        db = self._open_database()
        return [
            History(
                key,
                db.runs[key].replayable,
                db.mail_of(db.runs[key]),
                tuple(db.runs[key].details.values()),
                db.runs[key].damage,
            )
            if key in db.runs
            else History(key, (), ())
            for key in runs
        ]

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        answers = self.append_now(batch)
        future: asyncio.Future[list[Appended | Stale]] = self._loop.create_future()
        # Never within the call: a caller must not see its answer before it waits for it.
        self._loop.call_soon(_settle, future, answers)
        return future

    def append_now(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        """What `append` does, and what it answers a turn later."""
        db = self._open_database()
        answers: list[Appended | Stale] = []
        change: Change | None = None
        for append in batch:
            what = Change.ENDS if ends_alone(append) and _alone(db, append.run) else Change.ANYTHING
            answers.append(db.append(append))
            if isinstance(answers[-1], Appended):
                change = what.beside(change)
        if change is not None:
            self._changed(change)
        return answers


def _alone(db: MemoryDatabase, run: int) -> bool:
    """Whether a run has neither mail nor live children."""
    children = [db.runs[child] for child in db.children.get(run, ()) if child in db.runs]
    return run in db.runs and not db.runs[run].inbox and all(child.ended for child in children)


def _settle(future: asyncio.Future[list[Appended | Stale]], answers: list[Appended | Stale]) -> None:
    if not future.done():  # else the caller was cancelled meanwhile
        future.set_result(answers)


def _meant(db: MemoryDatabase, new: NewRun) -> tuple[Run, bool]:
    """The run that a start means, by its id or else by its dedup, and whether it has that dedup."""
    dedup = new.dedup if new.follows is None else following(new, db.ties(new.follows)).dedup
    meant = db.find_id(new.id)
    if (
        meant is None or meant.run == new.follows
    ):  # perhaps nothing follows that since another run has the dedup
        meant = with_dedup(db, dedup) or meant
    if meant is None and new.follows is not None:
        raise gone(new.id)
    assert meant is not None, "it was made, or has the id or the dedup of another"
    return meant, dedup is not None and meant.dedup == dedup


def _post_all(db: MemoryDatabase, new: NewRun, run: Run, alike: bool) -> Delivery:
    """The mail of a start that met a run."""
    if not new.attach or not (same_work(new, db.row(run)) or alike):
        return Delivery.DELIVERED
    if not run.ended and len(run.inbox) + len(new.mail) > INBOX_MAX:
        return Delivery.INBOX_FULL
    return worst_of([db.post(run, item, new.created_at) for item in new.mail])


def _matches(filter: RunFilter, run: Run) -> bool:
    return (
        (filter.before is None or run.run < filter.before)
        and (not filter.statuses or run.status in filter.statuses)
        and (filter.workflow is None or filter.workflow in (run.workflow, run.workflow.rpartition(".")[2]))
        and (filter.parent is None or run.parent == filter.parent)
        and (filter.floor is None or run.run > filter.floor)
        and (filter.among is None or run.run in filter.among)
        and (filter.within is None or run.id.startswith(filter.within))
        and (
            filter.text is None
            or filter.text in run.id[len(filter.within or "") :]
            or filter.text in (run.reason or "")
        )
        and (filter.since is None or run.created_at >= filter.since)
        and (filter.until is None or run.created_at < filter.until)
        and (filter.errands or step_of(run.workflow) is None)
        and (filter.unpatched is None or not (run.ended or filter.unpatched in run.patches))
        and all(holds(condition, run) for condition in filter.attributes)
    )
