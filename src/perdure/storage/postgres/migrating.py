"""Brings a database to today's schema, one process at a time, while the workers of before go on.

The row `migrating` of the table `meta` is held by whoever migrates, on a connection of its own, and free again when
that process is gone. The others look every moment whether it is done.

No statement may hold appends up for long. One that changes a table has to wait for the transactions that use it, and
whatever comes after it waits behind it; so it gives up after a moment, lets everybody pass, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors

from perdure.errors import StoreUnavailableError
from perdure.storage.migrate import Migration, left_behind, usable
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.trouble import Remedy, remedy

logger = logging.getLogger("perdure.postgres")

#: How long a statement waits for its lock, in seconds, while others wait behind it.
LOCK_TIMEOUT = 0.5
#: How long a migration is tried while somebody's transaction is in its way, in seconds.
PATIENCE = 600.0
_PAUSE = 0.2
_SAY_EVERY = 30.0

#: What is told to those that create the same thing at the same time, in spite of IF NOT EXISTS.
_SOMEBODY_WAS_FASTER = (
    errors.UniqueViolation,
    errors.DuplicateObject,
    errors.DuplicateTable,
    errors.DuplicateSchema,
)


async def migrate(db: Database, conninfo: str, where: str, migrations: Sequence[Migration]) -> None:
    """Make sure that the schema is one that this code can use.

    Args:
        db: in autocommit mode, and used for nothing else.

    Raises:
        NewerSchemaError: only newer code can use it.
        OlderWorkersError: workers are up whose code couldn't use it afterwards.
        StoreUnavailableError: somebody's transaction is in the way.
    """
    known = migrations[-1].version
    if usable(where, *await _version(db), known):
        return
    await _prepare(db)
    async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
        holder = Database(connection, db.queries)
        if not await _held(holder, db, where, known):
            return
        version, _ = await _version(db)
        new = not version  # of a new schema there is nothing to tell
        for migration in migrations[version:]:
            if not new:
                logger.info("%s: migrating to schema version %d", where, migration.version)
            await _refuse_for_older_workers(db, where, version, migration)
            await (_in_steps if migration.steps else _as_a_whole)(db, where, migration)
            version = migration.version
        await holder.roll_back()


async def _version(db: Database) -> tuple[int, int | None]:
    if not await db.value("has_schema"):
        return 0, None
    found = await db.rows("schema_version")
    return found[0] if found else (0, None)


async def _prepare(db: Database) -> None:
    """Make what processes that migrate agree by."""
    if await _version(db) != (0, None):
        return
    for query in ("create_schema", "create_meta", "begin_schema"):
        while True:
            try:
                await db.run(query)
                break
            except _SOMEBODY_WAS_FASTER:
                await asyncio.sleep(_PAUSE * random.random())  # noqa: S311 - spreads the herd


async def _held(holder: Database, db: Database, where: str, known: int) -> bool:
    """Become the one that migrates. False: another one has done it meanwhile."""
    loop = asyncio.get_running_loop()
    say_at = loop.time() + _SAY_EVERY
    while not usable(where, *await _version(db), known):
        await holder.begin()
        if await holder.rows("hold_migrating"):
            # A statement without a snapshot must follow: the one of the newest statement is kept, and building an
            # index would wait for it.
            await holder.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            if not usable(where, *await _version(db), known):
                return True
            await holder.roll_back()
            return False
        await holder.roll_back()
        if loop.time() >= say_at:
            logger.info("%s: waiting for another process that migrates it", where)
            say_at += _SAY_EVERY
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the herd
    return False


async def _refuse_for_older_workers(db: Database, where: str, version: int, migration: Migration) -> None:
    if version and migration.oldest_code > 1:
        for name, known in await db.rows("older_workers", oldest_code=migration.oldest_code):
            raise left_behind(where, name, known, migration)


async def _as_a_whole(db: Database, where: str, migration: Migration) -> None:
    async def attempt() -> None:
        async with _transaction(db):
            await db.connection.execute(migration.sql.encode())
            await _done(db, migration)

    await _persist(attempt, where, migration)


async def _in_steps(db: Database, where: str, migration: Migration) -> None:
    async def from_the_top() -> None:
        for statement in migration.steps:
            sql = statement.sql.encode()
            if b"CONCURRENTLY" in sql.upper():  # it holds nobody up, and half of it may be left when it fails
                await db.connection.execute(sql)
                continue

            async def attempt(sql: bytes = sql) -> int:
                async with _transaction(db):
                    return (await db.connection.execute(sql)).rowcount

            while await _persist(attempt, where, migration) and statement.repeats:
                pass
        async with _transaction(db):
            await _done(db, migration)

    await _persist(from_the_top, where, migration)


@asynccontextmanager
async def _transaction(db: Database) -> AsyncGenerator[None, None]:
    await db.begin()
    try:
        await db.connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT * 1000)}".encode())
        yield
        await db.commit()
    except BaseException:
        if not db.connection.closed:
            await db.roll_back()
        raise


async def _done(db: Database, migration: Migration) -> None:
    version = str(migration.version)
    if not await db.run("set_schema_version", version=version, before=str(migration.version - 1)):
        raise errors.SerializationFailure("somebody else has migrated it")  # who held the row was cut off
    await db.run("set_oldest_code", version=version, oldest_code=str(migration.oldest_code))


async def _persist(attempt: Callable[[], Awaitable[Any]], where: str, migration: Migration) -> Any:
    """Try again while others' transactions are in the way."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + PATIENCE
    say_at = loop.time() + _SAY_EVERY
    while True:
        try:
            return await attempt()
        except psycopg.Error as error:
            if remedy(error) is not Remedy.REPEAT:
                raise
            if loop.time() >= give_up:
                raise StoreUnavailableError(
                    f"The database {where} can't be brought to schema version {migration.version}: for "
                    f"{PATIENCE:g} s other transactions were in the way ({str(error).strip()}). Look for one that is "
                    "open for long in pg_stat_activity, end it, and start this again."
                ) from error
            if loop.time() >= say_at:
                logger.warning(
                    "%s: transactions are in the way of the migration, will try again: %s", where, error
                )
                say_at += _SAY_EVERY
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the herd
