"""What the tests of migrations share: databases of both kinds, and made-up migrations that follow today's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import psycopg

import perdure.storage.postgres.connection as postgres_connection
import perdure.storage.sqlite.connection as sqlite_connection
from perdure import Engine
from perdure.storage.migrate import Migration, load_migrations
from perdure.storage.postgres import PostgresStore
from perdure.storage.sqlite import SqliteStore

#: The migrations that the package has, and the next number.
TODAY = len(sqlite_connection.MIGRATIONS)

#: A new column that old code doesn't know of, and an index.
EXPAND = {
    "sqlite": "ALTER TABLE runs ADD COLUMN colour TEXT;\nCREATE INDEX runs_colour ON runs (colour);",
    "postgres": "ALTER TABLE perdure.runs ADD COLUMN colour text;",
}

#: It is filled in portions.
FILL = {
    "sqlite": (
        "-- repeat\nUPDATE runs SET colour = 'blue'\n"
        "WHERE run IN (SELECT run FROM runs WHERE colour IS NULL LIMIT 10);"
    ),
    "postgres": (
        "DROP INDEX CONCURRENTLY IF EXISTS perdure.runs_colour;\n"
        "CREATE INDEX CONCURRENTLY runs_colour ON perdure.runs (colour);\n"
        "-- repeat\nUPDATE perdure.runs SET colour = 'blue'\n"
        "WHERE run IN (SELECT run FROM perdure.runs WHERE colour IS NULL LIMIT 10);"
    ),
}


class Ground:
    """A database that code of several ages opens.

    Args:
        url: of an empty one.
        folder: for made-up migrations.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.kind = url.partition(":")[0].removesuffix("ql") if url.startswith("post") else "sqlite"
        self.path = url.removeprefix("sqlite:///")
        module = postgres_connection if self.kind == "postgres" else sqlite_connection
        self.folder = folder / "migrations"
        shutil.copytree(Path(module.__file__).parent / "migrations", self.folder)

    def add(self, sql: dict[str, str] | str, *, oldest: int = TODAY, in_steps: bool = False) -> int:
        """Another migration. Returns its number."""
        number = len(load_migrations(self.folder)) + 1
        head = f"-- oldest code: {oldest}\n{'-- in steps' if in_steps else ''}\n"
        text = sql if isinstance(sql, str) else sql[self.kind]
        (self.folder / f"{number:04d}_made_up.sql").write_text(head + text + "\n")
        return number

    def migrations(self, known: int | None = None) -> Sequence[Migration]:
        """What code knows that knows so many; all of them."""
        return load_migrations(self.folder)[:known]

    def store(self, known: int | None = None) -> Any:
        """The store of such code."""
        if self.kind == "postgres":
            return PostgresStore(self.url, migrations=self.migrations(known))
        return SqliteStore(self.path, migrations=self.migrations(known))

    def engine(self, known: int | None = None, **options: Any) -> Engine:
        """An engine of such code."""
        engine = Engine(self.url, **options)
        engine._store = self.store(known)
        return engine

    async def open_and_close(self, known: int | None = None) -> None:
        store = self.store(known)
        await store.open()
        await store.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What is in the database; tables are named without a schema."""
        if self.kind == "postgres":
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("SET search_path = perdure")
                cursor = connection.execute(sql.encode())
                return cursor.fetchall() if cursor.description else []
        connection = apsw.Connection(self.path)
        try:
            connection.set_busy_timeout(10_000)
            return list(connection.execute(sql))
        finally:
            connection.close()

    def version(self) -> int:
        if self.kind == "postgres":
            return int(self.query("SELECT value FROM meta WHERE name = 'schema_version'")[0][0])
        return int(self.query("PRAGMA user_version")[0][0])

    def columns(self) -> set[str]:
        """Those of the table of runs."""
        if self.kind == "postgres":
            found = self.query(
                "SELECT column_name FROM information_schema.columns "
                "WHERE table_schema = 'perdure' AND table_name = 'runs'"
            )
            return {str(name) for (name,) in found}
        return {str(row[1]) for row in self.query("PRAGMA table_info(runs)")}
