"""Counts what work costs a store: calls, statements, commits, syncs, pages, round trips, rows. Nothing is timed."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from helpers.faulty_disk import FaultyDisk
from helpers.postgres import Server
from helpers.proxies import Proxy

Costs = Counter[str]


class Counted:
    """A store, or one of its parts, that counts the calls of its verbs, and events of appends.

    Example:
        >>> Counted(store, costs)  # costs["append"], costs["events"], costs["streams.items"], ...
    """

    def __init__(self, inner: Any, costs: Costs, prefix: str = "") -> None:
        self._inner = inner
        self._costs = costs
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name.startswith("_"):
            return found
        if not callable(found):
            return found if isinstance(found, int | str) else Counted(found, self._costs, f"{name}.")

        def call(*args: Any, **kwargs: Any) -> Any:
            self._costs[self._prefix + name] += 1
            if name == "append":
                self._costs["events"] += sum(len(append.events) for append in args[0])
            return found(*args, **kwargs)

        return call


@contextmanager
def of_sqlite(disk: FaultyDisk, costs: Costs) -> Iterator[Costs]:
    """Count what connections do that are opened within the block: statements, commits that wrote, rows they changed,
    and syncs of the log and pages written to it."""

    def watch(connection: apsw.Connection) -> None:
        changed = 0

        def on_commit() -> bool:
            nonlocal changed
            rows, changed = connection.total_changes() - changed, connection.total_changes()
            costs["commits"] += rows > 0
            costs["rows"] += rows
            return False

        def on_statement(event: dict[str, Any]) -> None:
            if not event.get("trigger"):
                costs["statements"] += 1

        connection.set_commit_hook(on_commit)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, on_statement)

    syncs, pages = disk.log_syncs, disk.log_pages
    apsw.connection_hooks.append(watch)
    try:
        yield costs
    finally:
        apsw.connection_hooks.remove(watch)
        costs["syncs"] = disk.log_syncs - syncs
        costs["pages"] = disk.log_pages - pages


@contextmanager
def of_postgres(server: Server, database: str, costs: Costs) -> Iterator[str]:
    """Count what clients ask of a database: statements and round trips as seen on the wire, commits and rows as the
    server counts them. Gives the URL for the clients; they must be gone at the end of the block.
    """
    before = _told(server, database)
    with Proxy(server.port) as proxy:
        proxy.hears = _Wire(costs).hear
        yield server.url(database, port=proxy.port)
    after = _told(server, database)
    costs.update({name: after[name] - before[name] for name in after})


def _told(server: Server, database: str) -> dict[str, int]:
    """What the server has counted of sessions, once they have ended: they tell it then."""
    _wait_for(
        lambda: not _number(server, f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")
    )
    commits = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"
    rows = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables"
    return {"commits": _number(server, commits), "rows": _number(server, rows, database)}


def _number(server: Server, query: str, database: str = "postgres") -> int:
    ((found,),) = server.execute(query, database)
    return int(str(found))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "sessions don't end"
        time.sleep(0.01)


class _Wire:
    """Reads the frames that PostgreSQL's clients send: a letter, a length, a body; the first has no letter."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._unread: dict[object, bytes] = {}
        self._begun: set[object] = set()

    def hear(self, connection: object, data: bytes) -> None:
        unread = self._unread.get(connection, b"") + data
        while True:
            letters = 1 if connection in self._begun else 0
            if len(unread) < letters + 4:
                break
            (length,) = struct.unpack_from("!i", unread, letters)
            if len(unread) < letters + length:
                break
            if letters:
                self._count(unread[:1])
            elif length > 8:  # 8: it only asks whether it may encrypt
                self._begun.add(connection)
            unread = unread[letters + length :]
        self._unread[connection] = unread

    def _count(self, letter: bytes) -> None:
        if letter in b"QE":
            self._costs["statements"] += 1
        if letter in b"QS":
            self._costs["round trips"] += 1
