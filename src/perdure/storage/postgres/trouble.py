"""Sorts PostgreSQL's errors by what can be done about them, and says them in Perdure's words."""

from __future__ import annotations

import re
from enum import Enum

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout

from perdure.codec.redaction import common
from perdure.errors import StoreError, StoreUnavailableError


class PlaceTakenError(StoreError):
    """The history of a run in a batch has an event already where another is to go."""


class Remedy(Enum):
    """What helps against an error."""

    REPEAT = "repeat"  #: the transaction met another one: nothing was written, do it again
    RECONNECT = "reconnect"  #: the server or the way to it is gone for now; a commit's outcome may be unknown
    UNPREPARE = "unprepare"  #: a pooler in between knows nothing of prepared statements
    NONE = "none"


_REPEAT = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.QueryCanceled,  # by statement_timeout
)
_RECONNECT = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
    errors.ReadOnlySqlTransaction,  # the primary of before a failover
    errors.ConnectionException,
    PoolTimeout,
)
_UNPREPARE = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
_FULL = (errors.DiskFull, errors.OutOfMemory, errors.InsufficientResources)


def remedy(error: BaseException) -> Remedy:
    """What to do about an error."""
    if isinstance(error, _REPEAT):
        return Remedy.REPEAT
    if isinstance(error, _UNPREPARE):
        return Remedy.UNPREPARE
    if isinstance(error, (*_FULL, PoolClosed)):
        return Remedy.NONE
    if isinstance(error, _RECONNECT):
        return Remedy.RECONNECT
    # libpq tells of broken connections without an SQLSTATE
    broken = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return Remedy.RECONNECT if broken and getattr(error, "sqlstate", None) is None else Remedy.NONE


def translate(error: psycopg.Error | PoolTimeout, where: str) -> StoreError:
    """Perdure's error for one of PostgreSQL's.

    Args:
        where: the database, without its password.
    """
    told = common(str(error).strip()) or type(error).__name__
    if isinstance(error, errors.UniqueViolation) and error.diag.table_name == "events":
        return PlaceTakenError(
            f"A history in {where} has an event where the next one is to go. (PostgreSQL: {told})"
        )
    if isinstance(error, _FULL):
        return StoreUnavailableError(
            f"The database {where} has no room or memory left; nothing of this was written. Free some, work goes "
            f"on by itself. (PostgreSQL: {told})"
        )
    # a connection that is refused comes without an SQLSTATE
    if isinstance(error, errors.InsufficientPrivilege) or "password authentication failed" in told:
        return StoreUnavailableError(
            f"The database {where} refuses this user. Perdure needs to connect, and to create and use the schema "
            f'"perdure" there: GRANT CREATE ON DATABASE ... TO ... (PostgreSQL: {told})'
        )
    if re.search(r'database "[^"]*" does not exist', told):
        return StoreUnavailableError(
            f"The database {where} doesn't exist. Make it, or mend the url: CREATE DATABASE ... (PostgreSQL: {told})"
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return StoreUnavailableError(
            f"The database {where} takes no writes: it is a replica, or set to read only. Give the url of the primary "
            f"(with several hosts: target_session_attrs=read-write). (PostgreSQL: {told})"
        )
    if remedy(error) is not Remedy.NONE:
        return StoreUnavailableError(
            f"The database {where} can't be reached, or keeps refusing. Check that the server runs, that the url "
            f"is right and that it takes more connections. (PostgreSQL: {told})"
        )
    return StoreError(
        f"The database {where} refused a statement; nothing of it was written. This is a defect in Perdure or a "
        f"changed schema, please report it. (PostgreSQL: {told})"
    )
