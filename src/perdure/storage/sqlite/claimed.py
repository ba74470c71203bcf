"""The rows of runs that were just claimed, inside a transaction of the writer.

A row with a text that isn't UTF-8 any more can't be read. Such a run is blocked: else its worker would fail with all
that it has claimed, again and again, and so would every other one.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.reasons import row_unreadable
from perdure.storage.records import RunRow
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json, run_rows


def claimed_rows(db: Database, runs: Sequence[int]) -> list[RunRow]:
    """The rows, without those that can't be read."""
    try:
        return run_rows(db.rows("rows_by_key", {"runs": as_json(runs)}))
    except UnicodeDecodeError as error:
        if len(runs) == 1:
            db.run("block_unreadable", {"run": runs[0], "reason": row_unreadable(str(error))})
            return []
    return [row for run in runs for row in claimed_rows(db, [run])]
