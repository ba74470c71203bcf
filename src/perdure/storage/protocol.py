"""The one seam to the outside world: what a store promises.

Every verb is one transaction: when it returns, what it did is durable and visible to everyone, and if
it raises StoreUnavailableError nothing of it has happened. A store that can't know whether its commit
succeeded finds out by itself (it repeats the work, recognising appends by their attempt number) before
it answers. Only a disk whose I/O errors don't end can keep a SQLite file from finding out: then nothing of it
shows as long as this process lives, and after that it may have happened. `perdure.testing.conformance` states all of
this as tests.

A store object belongs to the event loop that opened it; its verbs are called from that loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from perdure.storage.attributes import Attributes
from perdure.storage.budgets import BudgetStore
from perdure.storage.callbacks import CallbackStore
from perdure.storage.chain import Damage
from perdure.storage.changes import OnChange
from perdure.storage.checkpoints import CheckpointStore
from perdure.storage.disk import Disk
from perdure.storage.entities import Entities
from perdure.storage.inquiries import Inquiries
from perdure.storage.keys import KeyStore
from perdure.storage.ledger import LedgerStore
from perdure.storage.limits import LimitStore
from perdure.storage.moving import Moving
from perdure.storage.namespaces import Namespaces
from perdure.storage.pauses import Pauses
from perdure.storage.publications import PublicationStore
from perdure.storage.queues import QueueStore
from perdure.storage.quotas import QuotaStore
from perdure.storage.records import (
    Append,
    Appended,
    Claimed,
    Created,
    Delivery,
    History,
    Mail,
    MailKind,
    NewRun,
    RunFilter,
    RunRow,
    Stale,
)
from perdure.storage.resealing import Resealing
from perdure.storage.retention import Retaining
from perdure.storage.schedules import ScheduleStore
from perdure.storage.streams import Streams
from perdure.storage.survey import Survey
from perdure.storage.unbegun import Unbegun
from perdure.storage.updates import Updates
from perdure.storage.workers import Heartbeat, WorkerRow


class Store(Protocol):
    """Runs, their histories and inboxes, and the workers that drive them."""

    @property
    def callbacks(self) -> CallbackStore:
        """Promises that somebody outside keeps."""
        ...

    @property
    def publications(self) -> PublicationStore:
        """Events that are published, and who wants them."""
        ...

    @property
    def schedules(self) -> ScheduleStore:
        """What starts runs by itself."""
        ...

    @property
    def limits(self) -> LimitStore:
        """How much may begin in how long."""
        ...

    @property
    def keys(self) -> KeyStore:
        """The keys of subjects."""
        ...

    @property
    def resealing(self) -> Resealing:
        """Rotating the keys with which it is sealed."""
        ...

    @property
    def quotas(self) -> QuotaStore:
        """How much each namespace may have."""
        ...

    @property
    def ledger(self) -> LedgerStore:
        """What runs have spent."""
        ...

    @property
    def checkpoints(self) -> CheckpointStore:
        """State of graphs, which belongs to no run."""
        ...

    @property
    def budgets(self) -> BudgetStore:
        """How much runs may spend."""
        ...

    @property
    def updates(self) -> Updates:
        """Messages that have an answer."""
        ...

    @property
    def pauses(self) -> Pauses:
        """Holding runs, and letting them go on."""
        ...

    @property
    def survey(self) -> Survey:
        """Looking at very many runs in bounded work."""
        ...

    @property
    def namespaces(self) -> Namespaces:
        """Looking at one namespace."""
        ...

    @property
    def entities(self) -> Entities:
        """Finding entities."""
        ...

    @property
    def unbegun(self) -> Unbegun:
        """Runs that nobody can begin."""
        ...

    @property
    def inquiries(self) -> Inquiries:
        """Queries on their way to a process that has the code."""
        ...

    @property
    def queues(self) -> QueueStore:
        """What limits and holds the runs of queues."""
        ...

    @property
    def streams(self) -> Streams:
        """What runs put out while they go on."""
        ...

    @property
    def moving(self) -> Moving:
        """Taking runs to another database."""
        ...

    @property
    def disk(self) -> Disk:
        """How much room is taken."""
        ...

    @property
    def retention(self) -> Retaining:
        """Removing runs that have ended."""
        ...

    @property
    def attributes(self) -> Attributes:
        """What runs are found by."""
        ...

    async def open(self, on_change: OnChange | None = None) -> None:
        """Connect, migrate if needed, check that the database is sound.

        Args:
            on_change: called in the event loop, coalesced, after somebody *else* (another store
                object, another process) has committed something. A hint: it may come late or for
                nothing, and losing it only costs latency. It tells what has changed; a store that can't
                know says that anything may have.

        Raises:
            NotADatabaseError, NewerSchemaError, StoreUnavailableError.
        """
        ...

    async def close(self) -> None:
        """Finish what was submitted, then disconnect. Closing twice is fine."""
        ...

    # -- clients ------------------------------------------------------------------------------------

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        """Create runs, all in one commit. An id that exists is left as it is and its row returned.

        The mail of a new run goes into its inbox; that of one that exists goes there, too, if the new one says
        `attach` and both mean the same work. Then `Created.delivery` is RUN_ENDED if that run has ended.

        With a `dedup` that another live run has, and an id that is free, nothing is made, and that run's row
        returned. If it `debounce`s, what comes of that depends on that run: one that nobody has driven yet, and
        that is of the same workflow, takes over its input, key and priority, and is put off to its wake_at; beside
        one that has begun it is made, and has the dedup from then on. A queue that has limits or is paused
        leaves no run to an owner.

        A run that `follows` an ended one takes its id over; everything that names an id means the newest run.
        """
        ...

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        """Put an encoded event into a run's inbox and make the run due if nobody drives it.

        A blocked or paused run keeps the mail but isn't made due by it; a message doesn't wake a run that was
        never driven before its time. With a `key` that this run has had mail with before, nothing happens
        (REPEATED), whatever became of that mail or of the run.
        """
        ...

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        """End a run at once from outside: append `event`, status terminated, fence its driver off.

        Its parent is told, and its own children are treated by their on_parent_close, recursively.
        """
        ...

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        """The rows of these runs, None for unknown ids. Of each id, here and elsewhere, the newest generation."""
        ...

    async def generation(self, id: str, number: int) -> RunRow | None:
        """The row of one generation of a run, the newest or an earlier one."""
        ...

    async def inbox(self, run: int) -> list[Mail]:
        """What a run's inbox holds, oldest first. Of an ended run: the messages that were never delivered."""
        ...

    async def find(self, filter: RunFilter) -> list[RunRow]:
        """Runs matching the filter, newest first, each in its newest generation."""
        ...

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """(seq, encoded event) of a run's history with seq > after, in order."""
        ...

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        """The newest encoded event of each of these runs, which must exist; or what is wrong with it."""
        ...

    # -- drivers ------------------------------------------------------------------------------------

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
        """Take over up to `limit` unowned, non-final runs with wake_at <= now, the longest due first.

        Each gets this worker as owner, the next epoch, status running, and started_at if it had none.
        Of queues with limits only those that hold a slot are taken, and as many from the line as there is
        room for: these get a slot. In a line the highest priority comes first, if the queue heeds it, then the longest
        due; keys take turns, if it treats them apart. Of a paused queue nothing is taken, of one that drains
        nothing from its line.

        A blocked or paused run is claimed only if its wake_at was set again. A worker that isn't
        registered (any more) gets nothing, and none gets a run that is pinned to another version than its
        own, or that its code couldn't drive before (see Misfit). The run's version becomes the worker's.

        Runs that have lost their drivers twice in a row or more are passed over. With `suspected`, if some of them
        are due and none has become so after that moment, these are taken, and nothing else: who lost the most first,
        and as many as core.suspicion lets be together. Not while a worker tries some that lost three drivers.
        """
        ...

    async def load(self, runs: Sequence[int]) -> list[History]:
        """Whole histories and inboxes of these runs, in the order asked; and whether they are what was recorded."""
        ...

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        """Write for many runs at once, in order; a stale one fails alone. The hot path.

        The compare-and-set: seq = expected, epoch = epoch, owner not null. updated_at becomes now, and
        recoveries 0 if there are events or the run is released. The future raises StoreUnavailableError if nothing
        was written.
        """
        ...

    async def mail(self, worker: int) -> list[Mail]:
        """All inbox items of the runs this worker owns, oldest first within each run."""
        ...

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        """(run, epoch) of every run this worker owns."""
        ...

    # -- workers ------------------------------------------------------------------------------------

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        """Add a worker and return its id (never used before in this database).

        Runs blocked for want of fitting code, of a workflow this worker knows and in one of its queues,
        become due again, unless it couldn't claim them.
        """
        ...

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        """Extend a worker's lease. False: it was declared dead, and must drop its runs."""
        ...

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        """Replace the list of workflows a worker has code for, with register's effect on blocked runs."""
        ...

    async def workers(self) -> list[WorkerRow]:
        """Every registered worker."""
        ...

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        """The workers of a host, and those anywhere whose lease was over before a moment: who may have died."""
        ...

    async def crowd(self) -> int:
        """How many workers are registered."""
        ...

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        """Declare a worker dead: remove it and make its runs due for others, in their next epoch.

        Does nothing (returns None) if the worker's lease is not `seen_lease` any more, or it is gone.
        What these runs and what they had finished have spent so far is spared once more, see LedgerStore.
        A run that has now lost its driver more than max_recoveries times in a row without recording
        anything, and was the only one that this worker had, is blocked with code POISON instead. Returns how many
        runs were released.
        """
        ...

    async def retire(self, worker: int, *, now: float) -> None:
        """A worker leaves in good order: like bury, but it doesn't count against its runs."""
        ...

    async def strand(self, *, now: float) -> int:
        """Block due, unowned, unblocked runs whose workflow no registered worker with their queue knows,
        and those pinned to a version that none of these workers has.

        Their reason says so, code CODE. Looks at a bounded number of due runs. Returns how many.
        """
        ...
