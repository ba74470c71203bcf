"""Opening a PostgreSQL database: connections, checks, and the way to today's schema."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from perdure.codec.redaction import common
from perdure.errors import ConfigurationError, StoreUnavailableError
from perdure.storage.migrate import Migration, load_migrations
from perdure.storage.postgres.arrays import ADAPTERS
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.migrating import migrate
from perdure.storage.sql import load_queries

logger = logging.getLogger("perdure.postgres")

_HERE = Path(__file__).parent
QUERIES = load_queries(_HERE / "queries")
MIGRATIONS = load_migrations(_HERE / "migrations")

OLDEST_SERVER = 140000
CONNECTIONS = 8
_CONNECT_TIMEOUT = 10
#: Seconds that the pool tries to replace a lost connection by itself. Its pauses would grow as long as the outage:
#: attempts.py asks it again, with pauses of its own.
RECONNECT_FOR = 1.0
#: Each row costs as much as a page, tables are joined row by row by their indexes, and what only seems to be expensive
#: then gets neither machine code nor more processes. With hashed and merged joins a batch that ended runs sorted all
#: the runs of all workers, and a claim of 256 runs read all there were, with two helpers: 7 ms instead of 0.5. Bitmaps
#: lose an index's order: a claim whose plan was made in a quiet hour read and sorted all that was due.
_FEW_ROWS = b"""
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
SET enable_bitmapscan = off; SET cpu_tuple_cost = 1; SET cpu_index_tuple_cost = 1; SET jit = off;
SET max_parallel_workers_per_gather = 0
"""


def checked(url: str) -> str:
    """The url as connection info, with what we need of it.

    Raises:
        ConfigurationError: libpq can't read it.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        told = common(str(error).replace(url, "..."))  # which may hold a password
        msg = f"the database url can't be read: {told}. Write postgresql://user:password@host:5432/database"
        raise ConfigurationError(msg) from None
    given.setdefault("connect_timeout", str(_CONNECT_TIMEOUT))
    given.setdefault("application_name", "perdure")
    given.setdefault("keepalives_idle", "10")
    given.setdefault("keepalives_interval", "5")
    given.setdefault("keepalives_count", "3")
    given.setdefault("tcp_user_timeout", "25000")  # milliseconds; keepalives don't watch what was sent
    return make_conninfo(**{name: str(value) for name, value in given.items() if value is not None})


def shown(url: str) -> str:
    """The database for messages, without its password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or "localhost"
    return f"{given.get('dbname') or ''} on {host}:{given.get('port') or 5432}"


def make_pool(conninfo: str, *, prepares: bool) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """Connections for this process, which prepare statements or don't; nothing is opened yet."""
    return AsyncConnectionPool(
        conninfo,
        min_size=1,
        max_size=CONNECTIONS,
        open=False,
        reconnect_timeout=RECONNECT_FOR,
        kwargs={"autocommit": True, "prepare_threshold": 2 if prepares else None, "context": ADAPTERS},
        configure=by_index if prepares else None,
        name="perdure",
    )


async def by_index(connection: AsyncConnection[Any]) -> None:
    """Let statements that are prepared look at as few rows as they can.

    A plan is kept for long. Made while tables are nearly empty, it would read all of them, also when they have grown.
    """
    with contextlib.suppress(psycopg.Error):  # not every engine has these
        await connection.execute(_FEW_ROWS)


async def prepare(
    connection: AsyncConnection[Any], conninfo: str, where: str, migrations: Sequence[Migration]
) -> bool:
    """Check the server, and bring the schema up to date.

    Returns:
        Whether a pooler such as pgbouncer is in between, which may give each transaction another connection to the
        server. There a prepared statement's name could mean one of another client's, and hints don't get through.

    Raises:
        StoreUnavailableError: its settings would lose what is acknowledged, or it is too old.
        NewerSchemaError, OlderWorkersError: it is for newer code, or older code is still at work.
    """
    db = Database(connection, QUERIES)
    ((synchronous, fsync, version, process),) = await db.rows("settings")
    if int(version) < OLDEST_SERVER:
        raise StoreUnavailableError(
            f"The database {where} runs PostgreSQL {int(version) // 10000}; Perdure needs 14 or newer. Upgrade "
            "the server."
        )
    if synchronous == "off":
        raise StoreUnavailableError(
            f"The database {where} has synchronous_commit off: a crash of the server would lose steps that were "
            "acknowledged. Set it on for this user: ALTER ROLE ... SET synchronous_commit = on"
        )
    if fsync == "off":
        logger.warning("%s runs with fsync=off: a power cut loses or damages it; for tests only", where)
    await migrate(db, conninfo, where, migrations)
    await db.run("forget_commits")
    await db.run("forget_dedups")
    pooled = bool(process != connection.pgconn.backend_pid)  # a pooler makes process numbers of its own up
    if pooled:
        logger.info("%s is behind a pooler: going without prepared statements and LISTEN", where)
    return pooled
