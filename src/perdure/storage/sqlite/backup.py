"""Copies of a SQLite file while others work with it, and what makes a copy fit to go on from.

A copy is one moment's picture, taken in one read transaction. It appears under its name only once it is whole, looked
through and on the disk.

Whoever goes on from an older copy begins another history of the same database. Workers of the former one may still be
up, and may even open the new file by its old name when they mend an I/O error. So a copy that is to be driven is
*fenced*: each live run's epoch and the numbers of workers go beyond all that the former one can have handed out.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import apsw

from perdure.errors import StoreUnavailableError
from perdure.storage.sql import load_queries
from perdure.storage.sqlite.connection import translate
from perdure.storage.sqlite.database import Database

_QUERIES = load_queries(Path(__file__).parent / "queries")

#: Pages that are copied between two looks at the progress: 4 MB.
_PORTION = 1000

#: What SQLite may have put beside a file. It would take it for part of another file of that name.
BESIDE = ("-wal", "-shm", "-journal")

#: How long a portion waits for somebody who has the whole file locked, in seconds.
_PATIENCE = 10.0


def copy_file(source: Path, target: Path, progress: Callable[[float], None] | None = None) -> None:
    """Make `target` a picture of `source`, whoever works with that, and prove that it is sound.

    Args:
        target: a file of that name isn't there, or is overwritten. It is there after this, or nothing is.
        progress: told the share that is done.

    Raises:
        StoreUnavailableError: one of them can't be used, or the copy isn't sound.
    """
    with _explained(target), _open(target) as copy:
        copy.pragma("synchronous", "OFF")  # it is synced at the end
        with _explained(source), _open(source, apsw.SQLITE_OPEN_READONLY) as original:
            original.execute("BEGIN; SELECT count(*) FROM sqlite_schema").fetchall()  # one moment
            _copy(original, copy, progress)
    with _explained(target), _open(target) as copy:
        verdict = copy.pragma("integrity_check")
        if verdict != "ok":
            raise StoreUnavailableError(
                f"The copy of {source} isn't sound, so {source} isn't either: {str(verdict)[:200]}. Keep it with its "
                "-wal file, and look with `perdure check`."
            )
        copy.pragma("journal_mode", "DELETE")  # whole in one file, whatever becomes of it
    sync(target)


def fence(path: Path, now: float) -> None:
    """See above. Nobody may work with the file yet."""
    beyond = int(now * 1000)  # of a run that began a new epoch each millisecond, still
    with _explained(path), _open(path) as connection:
        copy = Database(connection, _QUERIES)
        copy.begin()
        copy.run("fence_runs", {"now": now, "beyond": beyond})
        copy.run("forget_workers")
        copy.run("forget_worker_numbers")
        copy.run("fence_worker_numbers", (beyond,))
        copy.commit()


def sync(path: Path) -> None:
    """Get a file, or the names in a folder, onto the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _copy(original: Any, copy: Any, progress: Callable[[float], None] | None) -> None:
    deadline = time.monotonic() + _PATIENCE
    with copy.backup("main", original, "main") as work:
        while not work.done:
            try:
                work.step(_PORTION)
            except (apsw.BusyError, apsw.LockedError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
                continue
            deadline = time.monotonic() + _PATIENCE
            if progress is not None:
                progress(1 - work.remaining / max(1, work.page_count))


@contextlib.contextmanager
def _open(
    path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
) -> Generator[Any, None, None]:
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.set_busy_timeout(int(_PATIENCE * 1000))
        yield connection
    finally:
        connection.close(force=True)


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except apsw.Error as error:
        raise translate(error, str(path)) from error
    except OSError as error:
        raise StoreUnavailableError(f"{path} can't be written: {error.strerror}.") from error
