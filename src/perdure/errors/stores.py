"""Databases that can't be used, and runs that can't be carried from one to another."""

from __future__ import annotations

from perdure.errors.base import PerdureError


class MovingError(PerdureError):
    """Runs can't be moved, exported or imported: the other side has them, or the file isn't whole."""


class StoreError(PerdureError):
    """The database can't do what was asked."""


class StaleWorkerError(StoreError):
    """Another worker took this run over; this one must drop what it holds of it."""


class NotADatabaseError(StoreError):
    """The file at this path isn't a Perdure database."""


class NewerSchemaError(StoreError):
    """The database was written by a newer version of Perdure than this one."""


class OlderWorkersError(StoreError):
    """The database isn't migrated: workers are up whose code couldn't use it afterwards."""


class StoreUnavailableError(StoreError):
    """The database can't be reached or written: full disk, read-only file, lock, I/O error."""


class DatabaseMovedError(StoreUnavailableError):
    """The database's file isn't there any more, or another one is: this process must be started again."""
