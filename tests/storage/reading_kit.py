"""How many rows statements of PostgreSQL look at, where no statistics tell the planner what tables hold."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.postgres import Server


def without_statistics() -> Iterator[Server]:
    """For fixtures: a server that is told by nothing that tables have grown."""
    server = Server(autovacuum="off")
    yield server
    server.remove()


def read(server: Server, database: str, table: str) -> int:
    """Rows and index entries of a table that were looked at so far."""
    (found,) = server.execute(
        f"SELECT t.seq_tup_read, (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = t.relid) "
        f"FROM pg_stat_user_tables AS t WHERE t.relname = '{table}'",
        database,
    )
    return sum(int(str(number)) for number in found)
