"""The reader: a thread with a connection of its own, so that queries don't hold commits up.

Its transactions are short, because a reader that stays on an old snapshot keeps the log from being
emptied. In WAL mode it sees everything that was committed before its transaction began.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

import apsw

from perdure.errors import StoreError
from perdure.storage.sqlite.connection import refuse_moved, translate
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.job import Failed, Job, answer

_LOOK_EVERY = 1.0  #: whether the event loop still lives


class Reader:
    """Owns the reading connection. All methods but the private ones are called from the event loop."""

    def __init__(self, path: str, connect: Callable[[], Database], loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._open_database = connect
        self._loop = loop
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._db: Database | None = None
        self._thread = threading.Thread(target=self._main, name="perdure-reader", daemon=True)
        self._opened = Job(loop.create_future(), None, ())
        self._closed = Job(loop.create_future(), None, ())

    async def open(self) -> None:
        self._thread.start()
        await self._opened.future

    def submit(self, job: Job) -> None:
        self._queue.put(job)

    async def close(self) -> None:
        """Finish what was submitted, then disconnect."""
        self._queue.put(None)
        await self._closed.future

    @property
    def database(self) -> Database | None:
        return self._db

    # -- the thread ---------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, open() raises it
            answer(self._loop, [self._opened], [Failed(error)])
            return
        answer(self._loop, [self._opened], [None])
        while not self._loop.is_closed():
            try:
                job = self._queue.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                continue
            if job is None:
                break
            answer(self._loop, [job], [self._read(job)])
            job = None  # its answer may be large
        self._disconnect()
        answer(self._loop, [self._closed], [None])

    def _read(self, job: Job) -> Any:
        """The job's answer. After an I/O error it is tried again on a new connection."""
        assert job.verb is not None
        error: Exception | None = None
        for _ in range(2):
            try:
                db = self._db or self._connect()
                refuse_moved(db, self._path)
                return job.verb(db, *job.work)
            except apsw.IOError as failure:
                self._disconnect()
                error = translate(failure, self._path)
            except StoreError as failure:  # it couldn't be reopened, or another one is there
                error = failure
            except Exception as failure:  # noqa: BLE001 - the caller gets it
                self._roll_back()
                error = translate(failure, self._path) if isinstance(failure, apsw.Error) else failure
                break
        assert error is not None
        return Failed(error)

    def _connect(self) -> Database:
        db = self._open_database()
        db.pragma("query_only", 1)
        self._db = db
        return db

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(apsw.Error):
                db.close()

    def _roll_back(self) -> None:
        if self._db is not None:
            try:
                self._db.roll_back()
            except apsw.Error:
                self._disconnect()
