"""The one writer: a thread that takes everything pending into one transaction, so into one fsync.

While a commit is being fsynced, new jobs gather; they make up the next transaction. Whatever the disk
does, each job gets a true answer:

- A job that SQLite refuses fails alone: the transaction is rolled back and the jobs are done singly.
- A full disk or a lock that doesn't come means that nothing was written, and the jobs are told so.
- An I/O error leaves the outcome of a commit unknown, and the connection unusable (after a failed fsync
  the next one may falsely succeed). The file is reopened and asked: a transaction with more than plain
  appends carries a mark, and appends recognise themselves. What didn't happen is repeated.

What an fsync failed to write counts as written afterwards: it stays in the system's cache, where everybody reads it,
and no later fsync writes it. So nothing of it may be trusted. A commit that failed is at the log's end, where SQLite
doesn't see it as long as the log isn't read anew, which happens when the first connection opens the file; therefore one
connection, the *keeper*, does nothing but stay open. Then the repair's own commit takes its place. What a
checkpoint has failed to write is copied from the log again (`log_index.py`).

Between jobs the writer watches for commits of other connections and processes.

Handing a job to the thread and its answer back costs two wake-ups, of 40 microseconds each or more. A lone
append that meets an idle writer is therefore committed by the event loop itself (`commit_here`), as long as
the disk is quick: the loop then stands still for less than a context switch would have cost somebody else. A
commit that took longer sends the next ones to the thread for as long again; if they go on being slow, for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import apsw

from perdure.errors import DatabaseMovedError, StoreError
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.sqlite.appends import append_at_once, apply_append, prepare
from perdure.storage.sqlite.checkpoint import Checkpointer
from perdure.storage.sqlite.connection import moved_error, translate
from perdure.storage.sqlite.database import Database, moved
from perdure.storage.sqlite.job import Failed, Job, answer
from perdure.storage.sqlite.log_index import forget_copied
from perdure.storage.sqlite.patience import BUSY_LIMIT
from perdure.storage.sqlite.transaction import Transaction

#: How long the idle writer waits before it looks whether somebody else has committed.
_LOOK_EVERY = 0.008
#: Pauses before an I/O error's repair is tried; after the last one the jobs fail.
_REPAIR_PAUSES = (0.0, 0.01, 0.1, 0.4)
_RECONNECT_EVERY = 0.5
#: After a commit that took longer than this, the event loop commits nothing itself for so many times as long, twice
#: that after the next slow one, and so on up to a limit. Disks that are quick have a slow moment every thousand
#: commits: with a pause of 100 ms after each, a fifth of a run's sequential steps went by way of the thread.
_SLOW_COMMIT = 0.002
_SLOW_PAUSE = 1.0
_SLOW_PAUSE_MAX = 64.0

#: So often a lone append asks whether the file's name still leads to it, in seconds: that is 5 microseconds of a step's
#: 160. Who moves the file away can't tell a commit of this millisecond from one of the last.
_LOOK_WHERE_EVERY = 0.001

_OUTCOME_UNKNOWN = (apsw.IOError, apsw.CorruptError)
_NOTHING_WRITTEN = (
    apsw.FullError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.CantOpenError,
    apsw.ProtocolError,
    apsw.NoMemError,
)


class Writer:
    """Owns the writing connection. All methods but the private ones are called from the event loop."""

    def __init__(
        self,
        path: str,
        connect: Callable[[], Database],
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[[], None],
    ) -> None:
        self._path = path
        self._open_database = connect
        self._loop = loop
        self._on_change = on_change
        self._queue: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._db: Database | None = None
        self._keeper: apsw.Connection | None = None  # of the log's index; see above
        self._checkpointer: Checkpointer | None = None
        self._number = 0  # of the newest transaction that was marked
        self._id = secrets.randbits(63)
        self._version: object = None  # SQLite's data_version when last looked at
        self._notified = False
        self._looked_at = 0.0
        self._mutex = threading.Lock()  # held by whoever uses the connection
        self._slow_until = 0.0
        self._look_where = 0.0  # from when on the file may have been moved away
        self._slow_pause = _SLOW_PAUSE
        self._thread = threading.Thread(target=self._main, name="perdure-writer", daemon=True)
        self._opened = Job(loop.create_future(), None, ())
        self._closed = Job(loop.create_future(), None, ())

    async def open(self) -> None:
        self._thread.start()
        await self._opened.future

    def submit(self, jobs: list[Job]) -> None:
        self._queue.put(jobs)

    def commit_here(self, append: Append) -> Appended | Stale | None:
        """Do a plain append on the calling thread, if that is quick. None: it isn't done, submit it.

        Whatever goes wrong is left to the writer thread, which has the patience; a repeated append
        recognises itself.
        """
        began = time.monotonic()
        if began < self._slow_until or not self._mutex.acquire(False):
            return None
        try:
            db, checkpointer = self._db, self._checkpointer
            if db is None or checkpointer is None or checkpointer.due or not self._queue.empty():
                return None
            db.patience.limit = 0.0
            try:
                if began >= self._look_where:
                    if db.moved():
                        raise moved_error(self._path)
                    self._look_where = began + _LOOK_WHERE_EVERY
                done = append_at_once(db, (append,))
                if done is not None:
                    answer: Appended | Stale = done[0]
                else:
                    db.begin()
                    answer = apply_append(db, append)
                    db.commit()
                if began - self._looked_at >= _LOOK_EVERY:
                    self._look(idle=True)
            except _OUTCOME_UNKNOWN:
                self._disconnect()
                return None
            except Exception:  # noqa: BLE001 - the thread will meet it again, and answer
                self._roll_back()
                return None
            finally:
                db.patience.limit = BUSY_LIMIT
                seconds = time.monotonic() - began
                if seconds <= _SLOW_COMMIT:
                    self._slow_pause = _SLOW_PAUSE
                else:
                    self._was_slow(began, seconds)
            return answer
        finally:
            self._mutex.release()

    def _was_slow(self, began: float, seconds: float) -> None:
        """A commit on the event loop took so long: decide when there may be another."""
        self._slow_until = began + seconds * (1 + self._slow_pause)
        self._slow_pause = min(self._slow_pause * 2, _SLOW_PAUSE_MAX)

    async def close(self) -> None:
        """Finish what was submitted, then disconnect."""
        self._queue.put(None)
        await self._closed.future

    @property
    def connections(self) -> Sequence[Database | apsw.Connection]:
        """Those that are open."""
        return [one for one in (self._db, self._keeper) if one is not None]

    # -- the thread ---------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, open() raises it
            self._leave()
            answer(self._loop, [self._opened], [Failed(error)])
            return
        answer(self._loop, [self._opened], [None])
        going = True
        while going and not self._loop.is_closed():
            jobs, going = self._take()
            if going and not jobs and self._is_looked_after():
                continue
            with self._mutex:
                if jobs:
                    answer(self._loop, jobs, self._commit(jobs))
                self._checkpoint()
                self._look(idle=not jobs)
            del jobs  # they may be large, and the next ones may be long in coming
        with self._mutex:
            self._leave()
        answer(self._loop, [self._closed], [None])

    def _take(self) -> tuple[list[Job], bool]:
        """Everything pending, and whether to go on afterwards. Waits a moment if there is nothing."""
        jobs: list[Job] = []
        try:
            more = self._queue.get(timeout=_LOOK_EVERY)
            while more is not None:
                jobs += more
                more = self._queue.get_nowait()
        except queue.Empty:
            return jobs, True
        return jobs, False

    # -- committing ---------------------------------------------------------------------------------

    def _commit(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """The answers to all jobs, done in one transaction if possible."""
        transaction = Transaction(self._path, self._id, jobs)
        error: StoreError | None = None
        for pause in _REPAIR_PAUSES:
            if pause:
                time.sleep(pause)
            try:
                db = self._db
                if db is None:
                    db = self._repair()
                    if transaction.has_happened(db):
                        return transaction.answers
                self._number += 1
                transaction.run(db, self._number)
            except _OUTCOME_UNKNOWN as failure:
                self._disconnect()
                error = translate(failure, self._path)
            except DatabaseMovedError as failure:
                self._roll_back()
                error = failure
                break
            except StoreError as failure:  # the file couldn't be reopened: what came of the job is as unknown
                error = error or failure
            except _NOTHING_WRITTEN as failure:
                self._roll_back()
                error = translate(failure, self._path)
                break
            except Exception as failure:  # noqa: BLE001 - one job is at fault; whose it is gets it
                self._roll_back()
                return self._commit_singly(jobs, failure)
            else:
                return transaction.answers
        assert error is not None
        return [Failed(type(error)(str(error))) for _ in jobs]

    def _commit_singly(self, jobs: Sequence[Job], failure: Exception) -> Sequence[Any]:
        if len(jobs) > 1:
            return [answer for job in jobs for answer in self._commit([job])]
        return [Failed(translate(failure, self._path) if isinstance(failure, apsw.Error) else failure)]

    def _roll_back(self) -> None:
        if self._db is None:
            return
        try:
            self._db.roll_back()
        except apsw.Error:
            self._disconnect()

    # -- the connection -----------------------------------------------------------------------------

    def _connect(self) -> Database:
        db = self._open_database()
        try:
            if self._keeper is None:
                self._keeper = _keeper(db.connection)
            prepare(db)
            db.run("forget_commits")
            self._version = db.value("data_version")
        except apsw.Error as error:
            _close(db.connection)
            raise translate(error, self._path) from error
        self._checkpointer = Checkpointer(db)
        self._db = db
        return db

    def _repair(self) -> Database:
        """Reopen the file after an I/O error, and see to it that nothing counts that only the system's cache has."""
        try:
            if self._keeper is not None:
                if moved(self._keeper):
                    raise moved_error(self._path)
                forget_copied(self._keeper)
            db = self._connect()
            assert self._checkpointer is not None
            self._checkpointer.truncate()  # makes room, too; readers may keep it from that
            db.run("mark_repair")
        except apsw.Error as error:
            self._disconnect()
            raise translate(error, self._path) from error
        self._notify()
        return db

    def _disconnect(self) -> None:
        """Stop using the connection, after an error."""
        db, self._db, self._checkpointer = self._db, None, None
        if db is not None:
            _close(db.connection)

    def _leave(self) -> None:
        """Close everything. The last connection to a file empties and removes the log, if nothing is wrong with it."""
        if self._keeper is not None and self._db is None:
            with contextlib.suppress(StoreError):
                self._repair()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            _close(keeper)
        if self._db is not None:
            _close(self._db.connection, in_order=True)
            self._db = self._checkpointer = None

    def _checkpoint(self) -> None:
        if self._checkpointer is not None:
            try:
                self._checkpointer.run_if_due()
            except apsw.Error:
                self._disconnect()  # the next job or look reopens the file

    # -- watching -----------------------------------------------------------------------------------

    def _look(self, *, idle: bool) -> None:
        """See whether somebody else has committed; under load not after every transaction."""
        now = time.monotonic()
        if not idle and now - self._looked_at < _LOOK_EVERY:
            return
        try:
            if self._db is not None:
                self._looked_at = now
                version = self._db.value("data_version")
                if version != self._version:
                    self._version = version
                    self._notify()
            elif now - self._looked_at >= _RECONNECT_EVERY:
                self._looked_at = now
                self._repair()
        except apsw.Error:
            self._disconnect()
        except StoreError:
            pass  # still out of order; the next job will say so to somebody

    def _is_looked_after(self) -> bool:
        """Whether the event loop commits by itself, and so has looked. Asked without the mutex: as long as that is held
        here, a lone append would have to go by way of the thread, as every fiftieth did."""
        looked = time.monotonic() - self._looked_at < _LOOK_EVERY
        return looked and self._checkpointer is not None and not self._checkpointer.due

    def _notify(self) -> None:
        if not self._notified:
            self._notified = True
            with contextlib.suppress(RuntimeError):  # the loop is gone
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._notified = False
        self._on_change()


def _keeper(other: apsw.Connection) -> apsw.Connection:
    """One more connection to the same file, which holds nothing but the log's index."""
    connection = apsw.Connection(other.filename, vfs=other.open_vfs)
    connection.set_busy_timeout(int(BUSY_LIMIT * 1000))
    try:
        cast(Any, connection).pragma(
            "user_version"
        )  # what is to be read, though never so little, opens the log
    except BaseException:
        _close(connection)  # left to the error's traceback, it would keep the file locked for as long
        raise
    return connection


def _close(connection: apsw.Connection, *, in_order: bool = False) -> None:
    """Let go of a connection. Whatever it reports: all that was acknowledged is in the log."""
    with contextlib.suppress(apsw.Error):
        if not in_order:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(force=True)
