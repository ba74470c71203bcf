"""Makes a PostgreSQL database that was set back to an earlier moment fit to go on from.

Workers of the former one may still be up, connect again, and hold runs in memory that the database doesn't know to be
theirs. So each live run's epoch goes beyond all that the former one can have handed out: epochs grow by one with each
take-over, and these are milliseconds. Workers' numbers are drawn at random and are never met again.
"""

from __future__ import annotations

import psycopg

from perdure.errors import NotADatabaseError
from perdure.storage.postgres.connection import QUERIES, checked, shown
from perdure.storage.postgres.trouble import translate


def fence(url: str, now: float) -> None:
    """See above. One transaction.

    Raises:
        ConfigurationError, NotADatabaseError, StoreUnavailableError.
    """
    where = shown(url)
    try:
        with psycopg.connect(checked(url)) as connection:
            (there,) = connection.execute(QUERIES["has_schema"].encode()).fetchall()[0]
            if not there:
                raise NotADatabaseError(
                    f'{where} holds no runs of Perdure\'s: it has no schema "perdure". Give the url of the database '
                    "that was restored."
                )
            given = {"now": now, "beyond": int(now * 1000)}
            connection.execute(QUERIES["fence_restored_runs"].encode(), given)
            connection.execute(QUERIES["forget_workers"].encode())
    except psycopg.Error as error:
        raise translate(error, where) from error
