"""Brings a file to today's schema, while other processes may go on with it.

Several processes may do so at once: each transaction looks first whether it is still to be done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from perdure.errors import NotADatabaseError
from perdure.storage.migrate import Migration, left_behind, usable
from perdure.storage.sqlite.database import Database

logger = logging.getLogger("perdure.sqlite")

APPLICATION_ID = 0x50657264  # set by the first migration

#: Between portions of a large table, in seconds: other writers look every millisecond whether they may.
_PAUSE = 0.003


def is_ready(db: Database, path: str, migrations: Sequence[Migration]) -> bool:
    """Whether this code can use the file as it is. Looks before anything is changed.

    Raises:
        NotADatabaseError: it is something else.
        NewerSchemaError: only newer code can use it.
    """
    known = migrations[-1].version
    db.begin("BEGIN")  # one snapshot: another process may be creating the schema right now
    try:
        version = version_of(db, path)
        oldest = db.value("oldest_code", {"version": str(version)}) if version > known else None
    finally:
        db.roll_back()
    return usable(path, version, oldest, known)


def migrate(db: Database, path: str, migrations: Sequence[Migration]) -> None:
    """Execute the migrations that the file lacks.

    Raises:
        OlderWorkersError: workers are up whose code couldn't use it afterwards.
    """
    new: bool | None = None  # of a new file there is nothing to tell
    while not is_ready(db, path, migrations):
        version = _pragma(db, "user_version")
        new = version == 0 if new is None else new
        if version >= migrations[-1].version:
            continue  # another process was faster; look whether this code can still use it
        migration = migrations[version]
        if not new:
            logger.info("%s: migrating to schema version %d", path, migration.version)
        for statement in migration.steps:
            while _step(db, path, migration, statement.sql) and statement.repeats:
                time.sleep(_PAUSE)
        _step(db, path, migration, "" if migration.steps else migration.sql, last=True)


def version_of(db: Database, path: str) -> int:
    """The file's schema version, 0 for a new file. To be asked in a transaction: it is told by several reads."""
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    if application == 0 and version == 0 and db.value("is_empty"):
        return 0
    if application != APPLICATION_ID:
        raise NotADatabaseError(
            f"{path} is a SQLite database, but not one of Perdure's; it was left untouched. Perdure "
            f"keeps its runs in a file of its own: give it another path."
        )
    return version


def _pragma(db: Database, name: str) -> int:
    value = db.pragma(name)
    assert isinstance(value, int)
    return value


def _step(db: Database, path: str, migration: Migration, sql: str, *, last: bool = False) -> int:
    """Part of a migration in a transaction, if it is still to be done. Returns how many rows it changed."""
    db.begin()
    try:
        version = version_of(db, path)
        if version != migration.version - 1:
            db.roll_back()
            return 0
        if version and migration.oldest_code > 1:
            for name, known in db.rows("older_workers", {"oldest_code": migration.oldest_code}):
                raise left_behind(path, name, known, migration)
        before = db.connection.total_changes()
        db.script(sql)
        changed = db.connection.total_changes() - before
        if last:
            db.pragma("user_version", migration.version)
            db.run("set_oldest_code", (str(migration.version), str(migration.oldest_code)))
        db.commit()
    except BaseException:
        db.roll_back()
        raise
    return changed
