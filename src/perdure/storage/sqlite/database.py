"""A connection as the verbs see it: queries by name, answers as plain rows.

This is also where the types of apsw's answers are dropped: what a column holds is stated by the schema,
whose tables are STRICT.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import apsw

from perdure.storage.sqlite.patience import Patience

Value: TypeAlias = int | float | bytes | str | None
Bindings: TypeAlias = Sequence[Value] | Mapping[str, Value]
Row: TypeAlias = tuple[Any, ...]

_HAS_MOVED = apsw.SQLITE_FCNTL_HAS_MOVED


class Database:
    """Runs named queries on one connection, on the thread that opened it.

    Attributes:
        execute, changes, queries: what `run` is made of, for the commits that each step waits for.
        patience: with locks that others hold.
    """

    def __init__(self, connection: apsw.Connection, queries: Mapping[str, str]) -> None:
        self.connection = connection
        self.queries = queries
        # apsw's stubs name a class that Python 3.11 lacks, so its signature can't be checked there.
        self._cursor = cast(Any, connection.cursor())
        self.execute: Callable[..., Any] = self._cursor.execute
        self.changes = connection.changes
        self.patience = Patience()
        connection.set_busy_handler(self.patience)
        self._moved = ctypes.c_int(0)
        self._moved_at = ctypes.addressof(self._moved)

    def run(self, query: str, bindings: Bindings = ()) -> int:
        """Run a statement without rows; returns how many it changed."""
        self.execute(self.queries[query], bindings)
        return self.changes()

    def many(self, query: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement without rows once for each of these bindings."""
        if rows:
            self._cursor.executemany(self.queries[query], rows)

    def rows(self, query: str, bindings: Bindings = ()) -> list[Row]:
        found: list[Row] = self.execute(self.queries[query], bindings).fetchall()
        return found

    def value(self, query: str, bindings: Bindings = ()) -> Any:
        """The one column of the one row; None if there is no row."""
        return self.execute(self.queries[query], bindings).get

    def pragma(self, name: str, value: int | str | None = None) -> Any:
        """Set or ask one of SQLite's settings."""
        pragma = cast(Any, self.connection).pragma
        return pragma(name) if value is None else pragma(name, value)

    def script(self, statements: str) -> None:
        """Run several statements, as in a migration."""
        self.execute(statements)

    def begin(self, kind: str = "BEGIN IMMEDIATE") -> None:
        self.execute(kind)

    def commit(self) -> None:
        self.execute("COMMIT")

    def moved(self) -> bool:
        """Whether the file's name doesn't lead to it any more. Takes a microsecond or two."""
        self.connection.file_control("main", _HAS_MOVED, self._moved_at)
        return self._moved.value != 0

    def roll_back(self) -> None:
        """End the open transaction, if there is one: after some errors SQLite has rolled back already."""
        if self.connection.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        self.connection.close(force=True)


def moved(connection: apsw.Connection) -> bool:
    """Whether the name of a connection's file leads nowhere, or to another file: what is written to it nobody sees."""
    answer = ctypes.c_int(0)
    connection.file_control("main", _HAS_MOVED, ctypes.addressof(answer))
    return answer.value != 0
