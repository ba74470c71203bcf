"""SqliteStore: the verbs of the Store protocol, handed to the writer and the reader.

Everything submitted during one turn of the event loop goes to the writer together, so that it lands in
one transaction even while the writer is idle.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from perdure.errors import StoreUnavailableError
from perdure.storage.chain import Damage
from perdure.storage.changes import Change, OnChange
from perdure.storage.migrate import Migration
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
from perdure.storage.sqlite import reads, verbs
from perdure.storage.sqlite.attributes import SqliteAttributes
from perdure.storage.sqlite.budgets import SqliteBudgets
from perdure.storage.sqlite.callbacks import SqliteCallbacks
from perdure.storage.sqlite.checkpoints import SqliteCheckpoints
from perdure.storage.sqlite.connection import MIGRATIONS, open_database
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.disk import SqliteDisk
from perdure.storage.sqlite.entities import SqliteEntities
from perdure.storage.sqlite.inquiries import SqliteInquiries
from perdure.storage.sqlite.job import Job
from perdure.storage.sqlite.keys import SqliteKeys
from perdure.storage.sqlite.ledger import SqliteLedger
from perdure.storage.sqlite.limits import SqliteLimits
from perdure.storage.sqlite.moving import SqliteMoving
from perdure.storage.sqlite.namespaces import SqliteNamespaces
from perdure.storage.sqlite.pauses import SqlitePauses
from perdure.storage.sqlite.publications import SqlitePublications
from perdure.storage.sqlite.queues import SqliteQueues
from perdure.storage.sqlite.quotas import SqliteQuotas
from perdure.storage.sqlite.reader import Reader
from perdure.storage.sqlite.resealing import SqliteResealing
from perdure.storage.sqlite.retention import SqliteRetention
from perdure.storage.sqlite.schedules import SqliteSchedules
from perdure.storage.sqlite.streams import SqliteStreams
from perdure.storage.sqlite.survey import SqliteSurvey
from perdure.storage.sqlite.unbegun import SqliteUnbegun
from perdure.storage.sqlite.updates import SqliteUpdates
from perdure.storage.sqlite.writer import Writer
from perdure.storage.workers import Heartbeat, WorkerRow

_P = ParamSpec("_P")
_R = TypeVar("_R")


class SqliteStore:
    """Runs in one SQLite file.

    Args:
        path: the file; it is created if missing, in a directory that exists.
        vfs: name of the SQLite VFS to use, for tests that inject faults.
        migrations: what this code knows of the schema, if that isn't all of today's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        vfs: str | None = None,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        # Absolute, because the file may have to be opened again after the program has changed directory.
        self._path: Final = os.path.abspath(path)
        self._connect: Final = functools.partial(open_database, self._path, vfs, migrations)
        self._schema: Final = migrations[-1].version
        self._loop: asyncio.AbstractEventLoop
        self._writer: Writer
        self._reader: Reader
        self._pending: list[Job] = []
        self.schedules = SqliteSchedules(self._write, self._read)
        self.limits: Final = SqliteLimits(self._write, self._read)
        self.quotas: Final = SqliteQuotas(self._write, self._read)
        self.checkpoints: Final = SqliteCheckpoints(self._write, self._read)
        self.keys: Final = SqliteKeys(self._write, self._read)
        self.resealing: Final = SqliteResealing(self._write, self._read)
        self.ledger: Final = SqliteLedger(self._write, self._read)
        self.budgets: Final = SqliteBudgets(self._write, self._read)
        self.updates: Final = SqliteUpdates(self)
        self.inquiries: Final = SqliteInquiries(self)
        self._unusable: str | None = "it isn't open yet: await store.open() first"
        self.callbacks = SqliteCallbacks(self)
        self.publications: Final = SqlitePublications(self._write, self._read)
        self.pauses = SqlitePauses(self._write)
        self.moving: Final = SqliteMoving(self._write, self._read)
        self.unbegun = SqliteUnbegun(self._write, self._read)
        self.namespaces: Final = SqliteNamespaces(self._read)
        self.entities: Final = SqliteEntities(self._read)
        self.queues: Final = SqliteQueues(self._write, self._read)
        self.streams: Final = SqliteStreams(self._write, self._read)
        self.attributes: Final = SqliteAttributes(self._write, self._read)
        self.survey: Final = SqliteSurvey(self._read)
        self.retention: Final = SqliteRetention(self._write, self._read)
        self.disk: Final = SqliteDisk(self._write, self._read, self._path)

    async def open(self, on_change: OnChange | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        heard = _ignore if on_change is None else functools.partial(on_change, Change.ANYTHING)
        self._writer = Writer(self._path, self._connect, self._loop, heard)
        await self._writer.open()
        self._reader = Reader(self._path, self._connect, self._loop)
        try:
            await self._reader.open()
        except BaseException:
            await self._writer.close()
            raise
        self._unusable = None
        _OPEN.add(self)

    async def close(self) -> None:
        if self._unusable is not None:
            return
        self._unusable = "it was closed: open another one"
        _OPEN.discard(self)
        self._flush()
        # The writer goes last: the last connection to leave empties and removes the log.
        await self._reader.close()
        await self._writer.close()

    # -- writing ------------------------------------------------------------------------------------

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        append = batch[0] if len(batch) == 1 and not self._pending and self._unusable is None else None
        if append is not None and not (append.children or append.successor):  # as needs_mark() asks
            # two turns of the loop less, on the way to the writer and back: 15 microseconds of 200
            answer = self._writer.commit_here(append)
            if answer is not None:
                done: asyncio.Future[list[Appended | Stale]] = asyncio.Future(loop=self._loop)
                done.set_result([answer])
                return done
        return self._submit(None, batch)

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        return await self._write(verbs.create, runs)

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        return await self._write(verbs.send, id, NewMail(data, kind, key), now)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self._write(verbs.terminate, id, event, now)

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
        return await self._write(verbs.claim, worker, workflows, queues, now, limit, suspected)

    async def register(self, worker: WorkerRow, *, now: float) -> int:
        return await self._write(verbs.register, worker, now, self._schema)

    async def heartbeat(self, worker: int, beat: Heartbeat) -> bool:
        return await self._write(verbs.heartbeat, worker, beat)

    async def announce(self, worker: int, workflows: Sequence[str], *, now: float) -> None:
        return await self._write(verbs.announce, worker, workflows, now)

    async def bury(self, worker: int, seen_lease: float, *, now: float, max_recoveries: int) -> int | None:
        return await self._write(verbs.bury, worker, seen_lease, now, max_recoveries)

    async def retire(self, worker: int, *, now: float) -> None:
        return await self._write(verbs.retire, worker, now)

    async def strand(self, *, now: float) -> int:
        return await self._write(verbs.strand, now)

    # -- reading ------------------------------------------------------------------------------------

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        return await self._read(reads.get, ids)

    async def inbox(self, run: int) -> list[Mail]:
        return await self._read(reads.inbox, run)

    async def generation(self, id: str, number: int) -> RunRow | None:
        return await self._read(reads.generation, id, number)

    async def find(self, filter: RunFilter) -> list[RunRow]:
        return await self._read(reads.find, filter)

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        return await self._read(reads.events, run, after, limit)

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        return await self._read(reads.last_event, runs)

    async def load(self, runs: Sequence[int]) -> list[History]:
        return await self._read(reads.load, runs)

    async def mail(self, worker: int) -> list[Mail]:
        return await self._read(reads.mail, worker)

    async def owned(self, worker: int) -> list[tuple[int, int]]:
        return await self._read(reads.owned, worker)

    async def workers(self) -> list[WorkerRow]:
        return await self._read(reads.workers)

    async def suspects(self, host: str, *, lapsed_before: float) -> list[WorkerRow]:
        return await self._read(reads.suspects, host, lapsed_before)

    async def crowd(self) -> int:
        return await self._read(reads.crowd)

    # -- handing over -------------------------------------------------------------------------------

    def _submit(self, verb: Callable[..., Any] | None, work: Sequence[Any]) -> asyncio.Future[Any]:
        if self._unusable is not None:
            raise self._error()
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(Job(future, verb, work))
        if verb is None and len(work) > 1:  # others that append wait for the same commit already
            self._flush()
        return future

    def _flush(self) -> None:
        jobs, self._pending = self._pending, []
        if jobs:
            self._writer.submit(jobs)

    async def _write(
        self, verb: Callable[Concatenate[Database, _P], _R], *args: _P.args, **_: _P.kwargs
    ) -> _R:
        result: _R = await self._submit(verb, args)
        return result

    async def _read(
        self, verb: Callable[Concatenate[Database, _P], _R], *args: _P.args, **_: _P.kwargs
    ) -> _R:
        if self._unusable is not None:
            raise self._error()
        future: asyncio.Future[_R] = self._loop.create_future()
        self._reader.submit(Job(future, verb, args))
        return await future

    def _error(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"The store on {self._path} can't be used: {self._unusable}.")

    def abandon(self) -> None:
        """In a forked child: never touch the parent's connections, not even to close them."""
        self._unusable = (
            f"this process was forked from the one that opened it (process {os.getppid()}), and SQLite "
            f"connections can't be shared by forking. Open a store of its own here, or start processes with "
            f"the 'spawn' method"
        )
        for database in (*self._writer.connections, self._reader.database):
            # An extra reference, so that no finaliser ever closes it: that could wait for ever for a
            # thread which doesn't exist here, or remove the parent's log.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


def _ignore() -> None:
    """For stores opened without on_change."""


_OPEN: weakref.WeakSet[SqliteStore] = weakref.WeakSet()


def _abandon_all() -> None:
    for store in list(_OPEN):
        store.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_abandon_all)
