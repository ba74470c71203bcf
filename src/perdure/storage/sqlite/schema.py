"""How a file's schema stands, seen from outside: the file is opened read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from perdure.storage.migrate import Migration, SchemaState, left_behind
from perdure.storage.sql import load_queries
from perdure.storage.sqlite.connection import MIGRATIONS, translate
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.migrating import is_ready, version_of

_QUERIES = load_queries(Path(__file__).parent / "queries")


def schema_of(path: str, migrations: Sequence[Migration] | None = None) -> SchemaState:
    """See SchemaState.

    Args:
        migrations: what this code knows of the schema, if that isn't all of today's.

    Raises:
        NotADatabaseError, NewerSchemaError, StoreUnavailableError.
    """
    migrations = MIGRATIONS if migrations is None else migrations
    try:
        db = Database(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY), _QUERIES)
        try:
            is_ready(db, path, migrations)  # refuses what only newer code can use
            db.begin("BEGIN")
            version = version_of(db, path)
            due = migrations[version:]
            in_the_way = next(_in_the_way(db, path, due), None) if version else None
        finally:
            db.close()
    except apsw.Error as error:
        raise translate(error, path) from error
    return SchemaState(path, version, migrations[-1].version, due, in_the_way)


def _in_the_way(db: Database, path: str, due: Sequence[Migration]) -> Iterator[str]:
    for migration in due:
        if migration.oldest_code > 1:
            for name, known in db.rows("older_workers", {"oldest_code": migration.oldest_code}):
                yield str(left_behind(path, name, known, migration))
