"""What a store tells of the room it takes, in bounded work, and giving room back.

Small databases are counted; of large ones some runs, spread evenly over their keys, stand for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

#: How many runs stand for all.
SAMPLE = 400
#: Of each of them so many events at most.
SAMPLE_EVENTS = 100
#: A SQLite file of so many bytes at most is counted page by page.
COUNTED = 64 << 20
#: So many spans ahead have partitions.
AHEAD = 3
SPANS = ("day", "week", "month")


class TableSize(msgspec.Struct, frozen=True, gc=False):
    """The room of a table with its indexes, in bytes."""

    name: str
    bytes: int


class WorkflowSize(msgspec.Struct, frozen=True, gc=False):
    """What the histories of a workflow's runs take, about.

    Attributes:
        bytes: of their events' data.
    """

    workflow: str
    runs: int
    events: int
    bytes: int


class DiskUse(msgspec.Struct, frozen=True, gc=False):
    """The room of a database.

    Attributes:
        bytes: all of it, in files of the database; 0 in memory.
        free: what of that is free, and will be used again or given back.
        log: what its log takes beside it.
        shrinks: free room can be given back while workers go on.
        runs: how many there are, about, earlier generations included.
        oldest: when the oldest run was created, wall-clock seconds.
        tables: the largest first; empty if nobody has counted.
        workflows: the largest first.
        remainders: runs that are removed, but not all of their rows.
    """

    bytes: int
    free: int
    log: int
    shrinks: bool
    runs: int
    oldest: float | None
    tables: Sequence[TableSize]
    workflows: Sequence[WorkflowSize]
    remainders: int


class Tended(msgspec.Struct, frozen=True, gc=False):
    """Partitions that were made, and that were dropped."""

    made: Sequence[str] = ()
    dropped: Sequence[str] = ()


class Disk(Protocol):
    """The verbs about room, as `store.disk`."""

    async def use(self) -> DiskUse:
        """How much room is taken, by what."""
        ...

    async def partition(self, span: str) -> bool:
        """Keep events in a table for each span of time, a "day", "week" or "month", in which their runs were created.

        Returns:
            False if the store can't.

        Raises:
            StoreError: there are events already.
        """
        ...

    async def tend(self, *, now: float) -> Tended:
        """Make the partitions that will be needed, and drop those of which no run is left, if there are any at all."""
        ...

    async def shrink(self, *, bytes: int) -> int:
        """Give free room back, about so many bytes at most, in one short transaction; returns how much it was.

        Some stays, so that what is written next needn't make the files grow again.
        """
        ...


def spans(span: str, now: float, ahead: int) -> list[tuple[str, float, float]]:
    """The span of time that this moment is in, and the next ones: name, begin and end, wall-clock seconds.

    >>> [name for name, _, _ in spans("month", 0.0, 2)]
    ['19700101', '19700201', '19700301']
    """
    begin = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if span == "week":
        begin -= timedelta(days=begin.weekday())
    elif span == "month":
        begin = begin.replace(day=1)
    found: list[tuple[str, float, float]] = []
    for _ in range(ahead + 1):
        if span == "month":
            end = (begin + timedelta(days=32)).replace(day=1)
        else:
            end = begin + timedelta(days=7 if span == "week" else 1)
        found.append((begin.strftime("%Y%m%d"), begin.timestamp(), end.timestamp()))
        begin = end
    return found


def estimated(sampled: Sequence[tuple[str, int, int, int]], runs: int) -> list[WorkflowSize]:
    """What workflows take.

    Args:
        sampled: of some runs: workflow, number of events, how many of them were looked at, and their bytes.
        runs: how many runs there are.
    """
    sums: dict[str, list[int]] = {}
    for workflow, events, looked, size in sampled:
        own = sums.setdefault(workflow, [0, 0, 0])
        own[0] += 1
        own[1] += events
        own[2] += size * events // looked if looked else 0
    times = runs / len(sampled) if sampled else 0.0
    sizes = [WorkflowSize(name, *(round(times * figure) for figure in own)) for name, own in sums.items()]
    return sorted(sizes, key=lambda one: (-one.bytes, one.workflow))
