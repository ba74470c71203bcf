"""An auditor of a PostgreSQL database: see storage/auditing.py for what it reads.

Its connection is set to read only. It takes any replica as well as the primary.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from perdure.errors import NotADatabaseError
from perdure.storage.auditing import OF_RUNS, Replayable, Standing, Stray
from perdure.storage.postgres.connection import QUERIES, checked, shown
from perdure.storage.postgres.trouble import translate

_LAST = (1 << 63) - 1


class PostgresAuditor:
    """See Auditor.

    Args:
        url: of the database.

    Raises:
        ConfigurationError, NotADatabaseError, StoreUnavailableError.
    """

    def __init__(self, url: str) -> None:
        self.where = shown(url)
        with self._explained():
            self._connection = psycopg.connect(checked(url), autocommit=True)
            self._connection.execute("SET default_transaction_read_only = on")
            if not self._rows("has_schema")[0][0]:
                raise NotADatabaseError(
                    f'{self.where} holds no runs of Perdure\'s: it has no schema "perdure". Give the url of the '
                    "database that the workers use."
                )

    def close(self) -> None:
        self._connection.close()

    def runs(self, *, after: int, limit: int) -> Sequence[Standing]:
        return [Standing(*row) for row in self._rows("standings", after=after, limit=limit)]

    def standing(self, run: int) -> Standing | None:
        for found in self.runs(after=run - 1, limit=1):
            return found if found.run == run else None
        return None

    def replayable(self, *, after: int, limit: int, finished: bool = False) -> Sequence[Replayable]:
        rows = self._rows("replayable", after=after, limit=limit, finished=finished)
        return [Replayable(*row) for row in rows]

    def keys(self, id: str) -> Sequence[int]:
        return [run for (run,) in self._rows("keys_of_id", id=id)]

    def events(self, run: int, *, after: int, limit: int) -> Sequence[tuple[int, int, bytes]]:
        rows = self._rows("linked_events", run=run, after=after, limit=limit)
        return [(seq, link, data) for seq, link, data in rows]

    def strays(self, *, after: int, upto: int | None) -> Sequence[Stray]:
        found: list[Stray] = []
        with self._explained():
            for table in OF_RUNS:
                # the names are ours
                query = (
                    f"SELECT t.run, count(*) FROM perdure.{table} AS t WHERE t.run > %s AND t.run <= %s "  # noqa: S608
                    "AND NOT EXISTS (SELECT 1 FROM perdure.runs AS r WHERE r.run = t.run) GROUP BY t.run LIMIT 100"
                )
                given = (after, _LAST if upto is None else upto)
                rows = self._connection.execute(query.encode(), given).fetchall()
                found += [Stray(table, run, number) for run, number in rows]
        return found

    def complaints(self) -> Sequence[str]:
        try:
            rows = self._rows("failed_checksums")
        except Exception:  # noqa: BLE001 - not every engine has it
            return []
        failed = rows[0][0] if rows else None
        return [f"the server has met {failed} damaged pages of this database"] if failed else []

    def _rows(self, query: str, **bindings: Any) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._connection.execute(QUERIES[query].encode(), bindings, binary=True).fetchall()

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except psycopg.Error as error:
            raise translate(error, self.where) from error
