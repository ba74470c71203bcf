"""What a store promises to those who look at very many runs: an answer in bounded work.

A list of runs that somebody turns over mustn't take longer the more runs there are. A filter that matches much is
served by looking at runs, newest first, down to a floor; one that an index shows to match little, by those few alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure.storage.records import RunFilter, RunRow


class Tally(msgspec.Struct, frozen=True, gc=False):
    """How many runs of a workflow are at a status, earlier generations included."""

    status: str
    workflow: str
    count: int


class Finished(msgspec.Struct, frozen=True, gc=False):
    """How many runs ended with a status in one part of a time.

    Attributes:
        part: which, counted from 0.
        first: when the first of them did.
    """

    part: int
    status: str
    count: int
    first: float


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How many runs of a workflow in a queue ended with a status.

    Attributes:
        first: when the first of them did.
    """

    workflow: str
    queue: str
    status: str
    count: int
    first: float


class Survey(Protocol):
    """Looking at very many runs, as `store.survey`. Reads only."""

    async def floor(self, before: int | None, *, depth: int) -> int | None:
        """A key above which, and below `before`, there are at most `depth` runs; None if there are no more at all.

        It is the highest such key, or (in stores whose keys are dense) a few runs higher than that.
        """
        ...

    async def few(self, filter: RunFilter, *, cap: int) -> Sequence[int] | None:
        """Keys among which all runs are that the filter matches, whatever its own place and limit.

        Returns:
            None if no index tells, or there are more than `cap`.
        """
        ...

    async def keys(self, filter: RunFilter) -> Sequence[int]:
        """Keys of the runs that `find` finds."""
        ...

    async def rows(self, keys: Sequence[int]) -> Sequence[RunRow]:
        """These runs, in this order; those that don't exist are left out."""
        ...

    async def workflows(self, *, depth: int) -> Sequence[str]:
        """The workflows of the newest `depth` runs, by name."""
        ...

    async def tallies(self, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        """How many runs are at what, of these statuses, or all.

        By an index for statuses that need somebody, such as blocked; for all it may walk through the rows of runs (not
        of events): 20 ms for 100,000 of them.
        """
        ...

    async def blocked(self) -> Sequence[Tally]:
        """How many runs are blocked, by workflow and code (see BlockCode), which stands in the place of the status."""
        ...

    async def of_kind(self, status: str, workflow: str, *, skip: int, limit: int) -> Sequence[int]:
        """Keys of the runs of a workflow at a status, newest first. Quick for statuses that need somebody."""
        ...

    async def finished(self, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        """The ends of runs since a moment, in parts of `width` seconds; of more than `limit` the newest only.

        Runs that carry out steps of others don't count.
        """
        ...

    async def ends(self, since: float, *, limit: int) -> Sequence[Ended]:
        """How many runs of which workflow and queue ended how since a moment; of more than `limit` the newest only.

        Runs that carry out steps of others count, too.
        """
        ...

    async def took(self, *, limit: int) -> Sequence[tuple[str, float]]:
        """(workflow, seconds from its first driver to its end) of the runs that ended last, the newest first."""
        ...

    async def driven_since(self, before: float, *, limit: int) -> Sequence[int]:
        """Keys of runs that a worker has in memory and that were driven first before a moment, the oldest first."""
        ...
