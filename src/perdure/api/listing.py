"""Listing what is in a database: runs, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from perdure.api.runinfo import RunInfo, run_info
from perdure.storage.protocol import Store
from perdure.storage.records import RunFilter

_PAGE = 200  # runs fetched at once

#: A datetime is rounded to whole ones, so that a run's own `created_at` may be a little later than it was.
_HALF_A_MICROSECOND = 0.5e-6


def earliest(since: datetime) -> float:
    """The first moment that counts as `since`, in seconds; the `created_at` of a run includes that run."""
    return since.timestamp() - _HALF_A_MICROSECOND


async def list_runs(store: Store, filter: RunFilter, limit: int | None) -> AsyncIterator[RunInfo]:
    """Runs that a filter matches, newest first.

    Args:
        filter: its own limit and place don't count.
        limit: how many at most, None = all.
    """
    before: int | None = None
    left = limit
    while left is None or left > 0:
        page = _PAGE if left is None else min(_PAGE, left)
        rows = await store.find(msgspec.structs.replace(filter, before=before, limit=page))
        found = await store.attributes.of([row.run for row in rows])
        for row in rows:
            yield run_info(row, attributes=found.get(row.run, ()))
            before = row.run
        if len(rows) < page:
            return
        left = None if left is None else left - len(rows)
