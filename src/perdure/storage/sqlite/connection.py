"""Opening a SQLite file so that what is acknowledged is on disk, and saying clearly what is wrong if not.

The settings are the ones that measured safe against power loss: a new file is created with
synchronous=EXTRA before it goes to WAL mode (else a power cut can undo its creation), and afterwards
every commit is fsynced (FULL). Settings are read back, because SQLite ignores what it can't do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from perdure.errors import (
    ConfigurationError,
    DatabaseMovedError,
    NotADatabaseError,
    StoreError,
    StoreUnavailableError,
)
from perdure.storage.migrate import Migration, load_migrations
from perdure.storage.sql import load_queries
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.migrating import is_ready, migrate
from perdure.storage.sqlite.patience import BUSY_LIMIT, BUSY_STEP

_HERE = Path(__file__).parent
_QUERIES = load_queries(_HERE / "queries")
MIGRATIONS = load_migrations(_HERE / "migrations")

#: Older ones can corrupt a WAL file when a checkpoint races with a commit.
_OLDEST_SQLITE = (3, 51, 3)
_SYNCHRONOUS_FULL = 2
_CACHE_KIB = 8 * 1024


def open_database(
    path: str, vfs: str | None = None, migrations: Sequence[Migration] = MIGRATIONS
) -> Database:
    """A connection with every setting checked, to a database with a schema that this code can use.

    Args:
        migrations: what this code knows of the schema, if that isn't all of today's.

    Raises:
        ConfigurationError, NotADatabaseError, NewerSchemaError, OlderWorkersError, StoreUnavailableError.
    """
    _check_library()
    deadline = time.monotonic() + BUSY_LIMIT
    while True:
        try:
            return _open_once(path, vfs, migrations)
        except apsw.BusyError as error:
            # Another process is creating, recovering or leaving the file; SQLite doesn't always call
            # the busy handler then.
            if time.monotonic() >= deadline:
                raise translate(error, path) from error
            time.sleep(BUSY_STEP)
        except apsw.Error as error:
            raise translate(error, path) from error


def refuse_moved(db: Database, path: str) -> None:
    """Do nothing more with a file whose name leads elsewhere: nobody would see it.

    Raises:
        DatabaseMovedError
    """
    if db.moved():
        raise moved_error(path)


def moved_error(path: str) -> DatabaseMovedError:
    return DatabaseMovedError(
        f"The file {path} was moved away, deleted or replaced while this process had it open. What is written to it "
        "now would be lost, so nothing is. Start this process again when the right file is there."
    )


def _open_once(path: str, vfs: str | None, migrations: Sequence[Migration]) -> Database:
    connection = apsw.Connection(path, vfs=vfs, statementcachesize=256)
    try:
        db = Database(connection, _QUERIES)
        _prepare(db, path, migrations)
    except BaseException:
        connection.close(force=True)
        raise
    return db


def _check_library() -> None:
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < _OLDEST_SQLITE:
        wanted = ".".join(map(str, _OLDEST_SQLITE))
        raise ConfigurationError(
            f"The installed apsw brings SQLite {version}, which can corrupt databases in WAL mode (fixed in "
            f"{wanted}). Upgrade it: pip install -U apsw"
        )


def _prepare(db: Database, path: str, migrations: Sequence[Migration]) -> None:
    connection = db.connection
    if connection.readonly("main"):
        raise StoreUnavailableError(
            f"The database {path} can't be written: the file, its directory or the file system is "
            f"read-only. Make it writable for this user, or use another path."
        )
    ready = is_ready(db, path, migrations)
    if not ready:  # of a file that has tables it changes nothing
        db.pragma("auto_vacuum", "INCREMENTAL")
    # In WAL mode EXTRA is FULL; until the file is in WAL mode it also syncs the directory.
    db.pragma("synchronous", "EXTRA")
    db.pragma("journal_mode", "WAL")
    # The writer thread checkpoints by itself, after it has answered.
    connection.wal_autocheckpoint(0)
    if not ready:
        migrate(db, path, migrations)
    _forget_statistics(db)
    db.pragma("synchronous", "FULL")
    if sys.platform == "darwin":
        # Apple's fsync doesn't reach the disk; this one does.
        db.pragma("fullfsync", 1)
        db.pragma("checkpoint_fullfsync", 1)
    db.pragma("cache_size", -_CACHE_KIB)
    db.pragma("temp_store", "MEMORY")
    _check_settings(db, path)


def _forget_statistics(db: Database) -> None:
    """Drop what an ANALYZE has left, if anything.

    Every statement is written so that its indexes are used without any. Statistics that were right when they were made
    are wrong an hour later: those of a table with few rows make statements read all of it, which has grown since.
    """
    for (name,) in db.rows("statistics"):
        db.script(f"DROP TABLE IF EXISTS {name}")


def _check_settings(db: Database, path: str) -> None:
    mode = db.pragma("journal_mode")
    synchronous = db.pragma("synchronous")
    if mode != "wal" or synchronous != _SYNCHRONOUS_FULL:
        raise StoreUnavailableError(
            f"The database {path} can't be used safely: SQLite reports journal_mode={mode} and "
            f"synchronous={synchronous} where 'wal' and {_SYNCHRONOUS_FULL} are needed. This happens on "
            f"file systems without shared memory, such as network shares; use a local disk."
        )


#: What happened and what to do, by class of SQLite's error; the first match counts.
_ADVICE: Sequence[tuple[type[apsw.Error], str]] = (
    (
        apsw.FullError,
        "the disk is full. Nothing of this was written; free some space, work goes on by itself",
    ),
    (
        apsw.ReadOnlyError,
        "the file, its directory or the file system is read-only. Make it writable for this user",
    ),
    (
        apsw.PermissionsError,
        "permission was refused. Make the file and its directory writable for this user",
    ),
    (
        apsw.BusyError,
        "another process has held its lock too long. Look for a program that keeps a transaction open",
    ),
    (
        apsw.CantOpenError,
        "the file can't be opened. Check that its directory exists and is writable, that the path isn't a "
        "directory itself, and that the process may open more files",
    ),
    (
        apsw.CorruptError,
        "the file is damaged. Keep a copy of it with its -wal file, then restore a backup or recover what is "
        "left with the sqlite3 shell's .recover",
    ),
    (
        apsw.IOError,
        "the disk reported an I/O error, again after reopening the file. Whether the last transaction is on "
        "disk is unknown; check the disk and the system log",
    ),
)


def translate(error: apsw.Error, path: str) -> StoreError:
    """Perdure's error for one of SQLite's."""
    if isinstance(error, apsw.NotADBError):
        return NotADatabaseError(
            f"{path} isn't a SQLite database; it was left untouched. Give Perdure a path of its own; "
            "or remove the file, if Perdure was just making it when the disk failed and then the power."
        )
    where = os.path.abspath(path)
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return StoreUnavailableError(f"The database {where} can't be used: {advice}. (SQLite: {error})")
    return StoreError(
        f"The database {where} refused a statement; nothing of it was written. This is a defect in Perdure "
        f"or a changed schema, please report it. (SQLite: {error})"
    )
