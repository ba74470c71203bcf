"""Listing what is in a database: runs, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from perdure.api.runinfo import RunInfo, run_info
from perdure.errors import UsageError
from perdure.storage.protocol import Store
from perdure.storage.records import RunFilter

_PAGE = 200  # runs fetched at once

#: A datetime is rounded to whole ones, so that a run's own `created_at` may be a little later than it was.
_HALF_A_MICROSECOND = 0.5e-6


def earliest(since: datetime) -> float:
    """The first moment that counts as `since`, in seconds; the `created_at` of a run includes that run."""
    return since.timestamp() - _HALF_A_MICROSECOND


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list, newest first.

    Attributes:
        next: give it as `cursor=` for the page behind this one; None if this is the last one.
    """

    runs: Sequence[RunInfo]
    next: str | None


async def run_page(store: Store, filter: RunFilter, size: int, cursor: str | None) -> RunPage:
    """One page of the runs that a filter matches. New ones don't move those that follow.

    Raises:
        UsageError: the cursor is none.
    """
    before = None if cursor is None else _place(cursor)
    rows = await store.find(msgspec.structs.replace(filter, before=before, limit=size))
    found = await store.attributes.of([row.run for row in rows])
    runs = [run_info(row, attributes=found.get(row.run, ())) for row in rows]
    return RunPage(runs, format(rows[-1].run, "x") if len(rows) == size else None)


def _place(cursor: str) -> int:
    try:
        place = int(cursor, 16)
    except ValueError:
        place = -1
    if not 0 <= place < 1 << 63:
        msg = (
            f"{cursor!r} is no cursor: give what the page before this one told as its `next`, or leave it out"
        )
        raise UsageError(msg)
    return place


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
