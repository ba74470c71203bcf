"""Runs in one SQLite file: `pip install` and nothing else to set up.

`store.py` holds the verbs of the Store protocol and hands them to two threads. `writer.py` owns the one
writing connection and commits whatever is pending in one transaction; `reader.py` answers queries on a
second connection, so that they don't hold commits up. What a verb does inside its transaction is in
`appends.py`, `lifecycle.py` and `queries.py`; the SQL itself in `queries/`.
"""

from __future__ import annotations

from perdure.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
