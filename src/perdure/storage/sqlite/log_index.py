"""How far the log has been copied into the database file, as SQLite's processes tell each other: and taking it back.

A checkpoint that a reader holds up copies a part of the log, doesn't sync it, and notes how far it came. The next one
goes on from there, and syncs at its end what both have written. If that sync fails, the system counts all of it as
written, though the disk hasn't got it. SQLite would repeat the second part only; its sync would then succeed, the log
would be used anew, and the first part would be nowhere. So after an I/O error the note must be set back to zero, which
SQLite itself does only when the first connection opens the file. Everything that it speaks of is in the log, synced.

The note is in the memory that the connections to a file share, and SQLite has no interface to it but the one that it
uses itself. Its format is documented (sqlite.org/walformat.html, "The WAL-Index File Format") and the same since 2010;
see ADR 0026.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Final

import apsw

from perdure.errors import StoreUnavailableError
from perdure.storage.sqlite.patience import BUSY_STEP
from perdure.storage.sqlite.sqlite_file import Pointer, SqliteFile

_VERSION: Final = 3007000  #: of the format; the first number there
_REGION: Final = 32768  #: bytes that are mapped at once
_COPIED: Final = 96  #: where the number of pages is that have been copied
_CHECKPOINT: Final = 1  #: the lock that who checkpoints holds

_LOCK: Final = apsw.SQLITE_SHM_LOCK | apsw.SQLITE_SHM_EXCLUSIVE
_UNLOCK: Final = apsw.SQLITE_SHM_UNLOCK | apsw.SQLITE_SHM_EXCLUSIVE
_PATIENCE: Final = 1.0  #: with somebody who is at a checkpoint, in seconds


def forget_copied(connection: apsw.Connection) -> None:
    """Let the next checkpoint copy the whole log again, and until then everybody read what is in it from there.

    Raises:
        apsw.BusyError: somebody has been at a checkpoint or a transaction all this time.
        StoreUnavailableError: this SQLite does it in another way.
    """
    database: Any = connection
    database.execute("BEGIN IMMEDIATE")  # so that nobody begins the log anew meanwhile
    try:
        _forget_copied(connection)
    finally:
        database.execute("ROLLBACK")


def _forget_copied(connection: apsw.Connection) -> None:
    file = SqliteFile.of(connection, apsw.SQLITE_FCNTL_FILE_POINTER)
    start = Pointer()
    if file.shares_memory:
        file.do("xShmMap", 0, _REGION, 0, ctypes.byref(start))
    if start.value is None or ctypes.c_uint32.from_address(start.value).value != _VERSION:
        raise StoreUnavailableError(
            f"SQLite {apsw.sqlite_lib_version()} keeps the index of its log in a form that this version of Perdure "
            f"doesn't know, so an I/O error can't be mended. Upgrade Perdure, or install an older apsw."
        )
    deadline = time.monotonic() + _PATIENCE
    while not _locked(file):
        if time.monotonic() >= deadline:
            raise apsw.BusyError("somebody is at a checkpoint")
        time.sleep(BUSY_STEP)
    try:
        ctypes.c_uint32.from_address(start.value + _COPIED).value = 0
    finally:
        file.do("xShmLock", _CHECKPOINT, 1, _UNLOCK)


def _locked(file: SqliteFile) -> bool:
    try:
        file.do("xShmLock", _CHECKPOINT, 1, _LOCK)
    except apsw.BusyError:
        return False
    return True
