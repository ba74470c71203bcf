"""Listing what is in a database: runs, page by page.

A page costs about the same whatever the number of runs, since no more than so many are looked at for it. One that is
short though others follow means that much was looked through; who wants to know what is further back asks for the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from perdure.api.runinfo import RunInfo, run_info
from perdure.core.errands import step_of
from perdure.errors import UsageError
from perdure.storage.protocol import Store
from perdure.storage.records import RunFilter

_PAGE = 200  # runs fetched at once

#: Runs that are looked at for one page, and where attributes must be compared. Each takes about 20 ms at most.
DEPTH = 100_000
DEPTH_OF_ATTRIBUTES = 5_000

#: If an index shows so many that a filter may match, only these are looked at, wherever they are.
FEW = 2_000

#: Farther nobody counts.
COUNTED = 1_000

#: A datetime is rounded to whole ones, so that a run's own `created_at` may be a little later than it was.
_HALF_A_MICROSECOND = 0.5e-6


def earliest(since: datetime) -> float:
    """The first moment that counts as `since`, in seconds; the `created_at` of a run includes that run."""
    return since.timestamp() - _HALF_A_MICROSECOND


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list, newest first.

    Attributes:
        next: give it as `cursor=` for the page behind this one; None if this is the last one. A page may be short or
            empty though others follow: then the newest 100,000 runs behind the cursor were looked through.
        total: how many match, from this page on, if that was asked for; counted to 1,000.
        more: there are more than that, or may be, further back.
    """

    runs: Sequence[RunInfo]
    next: str | None
    total: int | None = None
    more: bool = False


async def run_page(
    store: Store, filter: RunFilter, size: int, cursor: str | None, *, count: bool = False
) -> RunPage:
    """One page of the runs that a filter matches. New ones don't move those that follow.

    Raises:
        UsageError: the cursor is none.
    """
    before = None if cursor is None else place_of(cursor)
    among = await store.survey.few(filter, cap=FEW)
    floor: int | None = None
    if among is None:
        depth = DEPTH_OF_ATTRIBUTES if filter.attributes else DEPTH
        floor = await store.survey.floor(before, depth=depth)
    limit = max(size, COUNTED if count else 0) + 1
    bounded = msgspec.structs.replace(filter, before=before, among=among, floor=floor, limit=limit)
    keys = await store.survey.keys(bounded)
    rows = await store.survey.rows(keys[:size])
    found = await store.attributes.of([row.run for row in rows])
    runs = [run_info(row, attributes=found.get(row.run, ())) for row in rows]
    behind = keys[size - 1] if len(keys) > size else None if floor is None else floor + 1
    next = None if behind is None else format(behind, "x")
    total = min(len(keys), COUNTED) if count else None
    return RunPage(runs, next, total, count and (len(keys) > COUNTED or floor is not None))


async def known_workflows(store: Store) -> list[str]:
    """The workflows that registered workers have, and those of the newest runs; by name."""
    names = set(await store.survey.workflows(depth=DEPTH))
    names.update(name for worker in await store.workers() for name in worker.workflows)
    return sorted(name for name in names if step_of(name) is None)


def place_of(cursor: str) -> int:
    """The key of the last row on the page before. Raises UsageError if the cursor is none."""
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
