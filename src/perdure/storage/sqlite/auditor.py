"""An auditor of a SQLite file: see storage/auditing.py for what it reads.

It opens the file read-only, without a look at the schema's version that could change anything, and holds no transaction
longer than a page takes, so that the log can be emptied meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from perdure.errors import StoreError
from perdure.storage.auditing import OF_RUNS, Replayable, Standing, Stray
from perdure.storage.sql import load_queries
from perdure.storage.sqlite.connection import MIGRATIONS, translate
from perdure.storage.sqlite.database import Database, Row
from perdure.storage.sqlite.migrating import is_ready

_QUERIES = load_queries(Path(__file__).parent / "queries")

#: SQLite stops to tell what is wrong with a file after so many complaints.
_COMPLAINTS = 100

#: The largest key that SQLite knows.
_LAST = (1 << 63) - 1


class SqliteAuditor:
    """See Auditor.

    Args:
        path: the file.

    Raises:
        NotADatabaseError, NewerSchemaError, StoreUnavailableError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.where = os.path.abspath(path)
        with self._explained():
            connection = apsw.Connection(self.where, flags=apsw.SQLITE_OPEN_READONLY)
            self._db = Database(connection, _QUERIES)
            ready = is_ready(self._db, self.where, MIGRATIONS)
        if not ready:
            self.close()
            raise StoreError(
                f"The database {self.where} has an older schema than this Perdure, or none yet. Anything that works "
                "with it brings it up to date: perdure ls"
            )

    def close(self) -> None:
        self._db.close()

    def runs(self, *, after: int, limit: int) -> Sequence[Standing]:
        with self._explained():
            rows = self._db.rows("standings", {"after": after, "limit": limit})
        return [_standing(row) for row in rows]

    def standing(self, run: int) -> Standing | None:
        for found in self.runs(after=run - 1, limit=1):
            return found if found.run == run else None
        return None

    def replayable(self, *, after: int, limit: int, finished: bool = False) -> Sequence[Replayable]:
        given = {"after": after, "limit": limit, "finished": int(finished)}
        with self._explained():
            rows = self._db.rows("replayable", given)
        return [_replayable(*row) for row in rows]

    def keys(self, id: str) -> Sequence[int]:
        with self._explained():
            return [run for (run,) in self._db.rows("keys_of_id", {"id": id})]

    def events(self, run: int, *, after: int, limit: int) -> Sequence[tuple[int, int, bytes]]:
        with self._explained():
            rows = self._db.rows("linked_events", {"run": run, "after": after, "limit": limit})
        return [(seq, link, data) for seq, link, data in rows]

    def strays(self, *, after: int, upto: int | None) -> Sequence[Stray]:
        found: list[Stray] = []
        given = (after, _LAST if upto is None else upto)
        with self._explained():
            for table in OF_RUNS:
                # a seek for each run that has rows here; the names are ours
                query = (
                    f"SELECT run, count(*) FROM {table} WHERE run > ? AND run <= ? "  # noqa: S608
                    "AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.run = "
                    f"{table}.run) GROUP BY run LIMIT 100"
                )
                rows = self._execute(query, given)
                found += [Stray(table, run, number) for run, number in rows]
        return found

    def complaints(self) -> Sequence[str]:
        with self._explained():
            rows = self._execute(f"PRAGMA integrity_check({_COMPLAINTS})")
            return [text for (text,) in rows if text != "ok"]

    def _execute(self, statement: str, bindings: Sequence[int] = ()) -> list[Row]:
        connection: Any = self._db.connection  # apsw's stubs name a class that Python 3.11 lacks
        rows: list[Row] = connection.execute(statement, bindings).fetchall()
        return rows

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except apsw.Error as error:
            raise translate(error, self.where) from error
        except UnicodeDecodeError as error:
            msg = f"The database {self.where} is damaged: there is a text in it that can't be read ({error})"
            raise StoreError(msg) from error


def _replayable(*row: Any) -> Replayable:
    run, id, generation, workflow, status, seq, chain, checkpoint, began, driven, version, pinned = row
    return Replayable(
        run, id, generation, workflow, status, seq, chain, checkpoint, began,
        driven=bool(driven), version=version, pinned=bool(pinned),
    )  # fmt: skip


def _standing(row: Row) -> Standing:
    run, id, generation, seq, chain, status, mail, inbox, checkpoint, following, is_there, known = row
    return Standing(
        run,
        id.decode(errors="backslashreplace"),
        generation,
        seq,
        chain,
        status.decode(errors="backslashreplace"),
        mail,
        inbox,
        checkpoint,
        following,
        next_is_there=bool(is_there),
        known=bool(known),
    )
