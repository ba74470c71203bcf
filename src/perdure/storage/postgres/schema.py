"""How a database's schema stands, seen from outside: nothing is changed, and nobody is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from perdure.storage.migrate import Migration, SchemaState, left_behind, usable
from perdure.storage.postgres.connection import MIGRATIONS, QUERIES, checked, shown
from perdure.storage.postgres.trouble import translate


def schema_of(url: str, migrations: Sequence[Migration] | None = None) -> SchemaState:
    """See SchemaState.

    Args:
        migrations: what this code knows of the schema, if that isn't all of today's.

    Raises:
        ConfigurationError, NewerSchemaError, StoreUnavailableError.
    """
    migrations = MIGRATIONS if migrations is None else migrations
    where = shown(url)
    try:
        with psycopg.connect(checked(url), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = on")
            version, oldest = _version(connection)
            usable(where, version, oldest, migrations[-1].version)
            due = migrations[version:]
            in_the_way = next(_in_the_way(connection, where, due), None) if version else None
    except psycopg.Error as error:
        raise translate(error, where) from error
    return SchemaState(where, version, migrations[-1].version, due, in_the_way)


def _rows(connection: psycopg.Connection[Any], query: str, **bindings: Any) -> list[tuple[Any, ...]]:
    return connection.execute(QUERIES[query].encode(), bindings, binary=True).fetchall()


def _version(connection: psycopg.Connection[Any]) -> tuple[int, int | None]:
    if not _rows(connection, "has_schema")[0][0]:
        return 0, None
    found = _rows(connection, "schema_version")
    return found[0] if found else (0, None)


def _in_the_way(connection: psycopg.Connection[Any], where: str, due: Sequence[Migration]) -> Iterator[str]:
    for migration in due:
        if migration.oldest_code > 1:
            for name, known in _rows(connection, "older_workers", oldest_code=migration.oldest_code):
                yield str(left_behind(where, name, known, migration))
