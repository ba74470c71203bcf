"""Runs in a PostgreSQL database, for fleets of workers on any number of machines.

`store.py` holds the verbs of the Store protocol. `attempts.py` sees each transaction through restarts,
failovers and lost replies; `batches.py` gathers appends into group commits, several of them on their way at
once; `hints.py` tells other workers of changes and hears of theirs. What a verb does inside its transaction is
in `appends.py`, `lifecycle.py`, `verbs.py` and `reads.py`; the SQL itself in `queries/`.

The SQL stays within what distributed PostgreSQL engines accept: a run's key leads each primary key of what
belongs to a run, keys come from the client and not from sequences, no advisory locks, and
a NOTIFY that gets lost costs time only.
"""

from __future__ import annotations

from perdure.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
