"""PostgresStore: the verbs of the Store protocol, each a transaction on a connection of the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from perdure.errors import StoreUnavailableError
from perdure.storage.chain import Damage
from perdure.storage.changes import OnChange
from perdure.storage.migrate import Migration
from perdure.storage.postgres import reads, verbs
from perdure.storage.postgres.attempts import Attempts
from perdure.storage.postgres.attributes import PostgresAttributes
from perdure.storage.postgres.batches import Batches
from perdure.storage.postgres.budgets import PostgresBudgets
from perdure.storage.postgres.callbacks import PostgresCallbacks
from perdure.storage.postgres.checkpoints import PostgresCheckpoints
from perdure.storage.postgres.connection import MIGRATIONS, QUERIES, checked, make_pool, prepare, shown
from perdure.storage.postgres.disk import PostgresDisk
from perdure.storage.postgres.entities import PostgresEntities
from perdure.storage.postgres.express import Express
from perdure.storage.postgres.hints import Hints
from perdure.storage.postgres.inquiries import PostgresInquiries
from perdure.storage.postgres.keys import PostgresKeys
from perdure.storage.postgres.lane import Lane
from perdure.storage.postgres.ledger import PostgresLedger
from perdure.storage.postgres.limits import PostgresLimits
from perdure.storage.postgres.moving import PostgresMoving
from perdure.storage.postgres.namespaces import PostgresNamespaces
from perdure.storage.postgres.pauses import PostgresPauses
from perdure.storage.postgres.publications import PostgresPublications
from perdure.storage.postgres.queues import PostgresQueues
from perdure.storage.postgres.quotas import PostgresQuotas
from perdure.storage.postgres.resealing import PostgresResealing
from perdure.storage.postgres.retention import PostgresRetention
from perdure.storage.postgres.schedules import PostgresSchedules
from perdure.storage.postgres.streams import PostgresStreams
from perdure.storage.postgres.survey import PostgresSurvey
from perdure.storage.postgres.trouble import translate
from perdure.storage.postgres.unbegun import PostgresUnbegun
from perdure.storage.postgres.updates import PostgresUpdates
from perdure.storage.records import (
    Append,
    Appended,
    Claimed,
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
)
from perdure.storage.workers import Heartbeat, WorkerRow

_R = TypeVar("_R")


class PostgresStore:
    """Runs in a PostgreSQL database.

    Args:
        url: as libpq takes it: `postgresql://user:password@host/database`.
        migrations: what this code knows of the schema, if that isn't all of today's.

    Raises:
        ConfigurationError: the url can't be read.
    """

    def __init__(self, url: str, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._migrations: Final = migrations
        self._conninfo: Final = checked(url)
        self._where: Final = shown(url)
        self._loop: asyncio.AbstractEventLoop
        self._attempts: Attempts
        self._batches: Batches
        self._lane: Lane
        self._hints: Hints
        self.attributes: Final = PostgresAttributes(self)
        self.survey: Final = PostgresSurvey(self)
        self.retention: Final = PostgresRetention(self)
        self.disk: Final = PostgresDisk(self)
        self.queues: Final = PostgresQueues(self)
        self.streams: Final = PostgresStreams(self)
        self.pauses: Final = PostgresPauses(self)
        self.moving: Final = PostgresMoving(self)
        self.namespaces: Final = PostgresNamespaces(self)
        self.entities: Final = PostgresEntities(self)
        self.unbegun: Final = PostgresUnbegun(self)
        self.callbacks: Final = PostgresCallbacks(self)
        self.publications: Final = PostgresPublications(self)
        self.schedules: Final = PostgresSchedules(self)
        self.limits: Final = PostgresLimits(self)
        self.quotas: Final = PostgresQuotas(self)
        self.checkpoints: Final = PostgresCheckpoints(self)
        self.keys: Final = PostgresKeys(self)
        self.resealing: Final = PostgresResealing(self)
        self.ledger: Final = PostgresLedger(self)
        self.budgets: Final = PostgresBudgets(self)
        self.updates: Final = PostgresUpdates(self)
        self.inquiries: Final = PostgresInquiries(self)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._unusable: str | None = "it isn't open yet: await store.open() first"

    async def open(self, on_change: OnChange | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:  # on a connection of its own, so that what is wrong is told at once and as it is
            async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                pooled = await prepare(connection, self._conninfo, self._where, self._migrations)
        except (psycopg.Error, PoolTimeout) as error:
            raise translate(error, self._where) from error
        self._pool = make_pool(self._conninfo, prepares=not pooled)
        self._attempts = Attempts(self._pool, QUERIES, self._where)
        self._express = Express(self._conninfo, self._loop, QUERIES["append_one"], prepares=not pooled)
        self._hints = Hints(self._pool, self._conninfo, self._loop, None if pooled else on_change)
        self._batches = Batches(self._attempts, self._express, self._loop, self._hints.changed)
        self._lane = Lane(self._attempts, self._loop, self._hints.changed)
        try:
            await self._pool.open()
            await self._express.open()
            await self._hints.open()
        except BaseException:
            await self._disconnect()
            raise
        self._unusable = None

    async def close(self) -> None:
        if self._unusable is not None:
            return
        self._unusable = "it was closed: open another one"
        await self._lane.drain()
        await self._batches.drain()
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._hints.close()
        await self._express.close()
        await self._attempts.close()
        await self._pool.close()

    # -- writing ------------------------------------------------------------------------------------

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        self._check()
        return self._batches.submit(batch)

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        return await self.write(verbs.create, runs) if runs else []

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        return await self.write(verbs.send, id, NewMail(data, kind, key), now)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self.write(verbs.terminate, id, event, now)

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
        # most looks find nothing: they cost a statement that reads, and no transaction
        worthwhile, next_at, since = await self.read(
            verbs.idle_until, worker, workflows, queues, now, suspected
        )
        if not worthwhile:
            return Claimed([], next_at, suspected=since)
        # no hint: that a run has an owner now concerns nobody
        return await self._seen_through(
            self._attempts.write(verbs.claim, worker, workflows, queues, now, limit, suspected)
        )

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        return await self._manage(verbs.register, worker, now, self._migrations[-1].version)

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        return await self._seen_through(self._attempts.write(verbs.heartbeat, worker, beat, marked=False))

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        return await self._manage(verbs.announce, worker, workflows, now)

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        return await self._manage(verbs.bury, worker, seen_lease, now, max_recoveries)

    async def retire(self, worker: int, *, now: float) -> None:
        return await self._manage(verbs.retire, worker, now)

    async def strand(self, *, now: float) -> int:
        if not await self.read(verbs.any_stranded, now):
            return 0
        return await self._seen_through(self._attempts.write(verbs.strand, now))

    # -- reading ------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        return await self.read(reads.get, ids)

    async def generation(self, id: str, number: int) -> RunRow | None:
        return await self.read(reads.generation, id, number)

    async def inbox(self, run: int) -> list[Mail]:
        return await self.read(reads.inbox, run)

    async def find(self, filter: RunFilter) -> list[RunRow]:
        return await self.read(reads.find, filter)

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        return await self.read(reads.events, run, after, limit)

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        return await self.read(reads.last_event, runs)

    async def load(self, runs: Sequence[int]) -> list[History]:
        return await self.read(reads.load, runs)

    async def mail(self, worker: int) -> list[Mail]:
        return await self.read(reads.mail, worker)

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        return await self.read(reads.owned, worker)

    async def workers(self) -> list[WorkerRow]:
        return await self.read(reads.workers)

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        return await self.read(reads.suspects, host, lapsed_before)

    async def crowd(self) -> int:
        workers = await self.read(reads.crowd)
        self._hints.spread(workers)
        return workers

    # -- handing over -------------------------------------------------------------------------------

    async def write(self, verb: Callable[..., Awaitable[_R]], *args: Any) -> _R:
        """One transaction, in line with what else clients write; for the parts of the store."""
        self._check()
        return await self._lane.write(verb, *args)

    async def apart(self, verb: Callable[..., Awaitable[_R]], *args: Any) -> _R:
        """A transaction of its own, beside the clients' lane; for the parts of the store."""
        return await self._seen_through(self._attempts.write(verb, *args))

    def changed(self) -> None:
        """Others may want to know what was just committed; for the parts of the store."""
        self._hints.changed()

    async def arrived(self, runs: Collection[int]) -> None:
        """Wait for the appends to these runs that were submitted so far; for the parts of the store."""
        self._check()
        await self._batches.arrived(runs)

    async def beside(self, verb: Callable[..., Awaitable[_R]], *args: Any, marked: bool) -> _R:
        """A transaction of its own, of which nobody is told; for the parts of the store."""
        return await self._seen_through(self._attempts.write(verb, *args, marked=marked))

    async def alone(self, query: str, bindings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """One statement that is its own transaction; for the parts of the store."""
        return await self._seen_through(self._attempts.alone(query, bindings))

    async def _manage(self, verb: Callable[..., Awaitable[_R]], *args: Any) -> _R:
        """A worker's own transaction, beside the clients' lane."""
        answer = await self._seen_through(self._attempts.write(verb, *args))
        self._hints.changed()
        return answer

    async def read(self, verb: Callable[..., Awaitable[_R]], *args: Any) -> _R:
        """Statements that change nothing; for the parts of the store."""
        return await self._seen_through(self._attempts.read(verb, *args))

    async def _seen_through(self, work: Coroutine[Any, Any, _R]) -> _R:
        """A verb that was called happens, whoever stops waiting for it: as a task, which `close` waits for."""
        if self._unusable is not None:
            work.close()
            self._check()
        task = self._loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def _check(self) -> None:
        if self._unusable is not None:
            raise StoreUnavailableError(f"The store on {self._where} can't be used: {self._unusable}.")
