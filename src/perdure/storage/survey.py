"""What a store promises to those who look at very many runs: an answer in bounded work.

A list of runs that somebody turns over mustn't take longer the more runs there are. A filter that matches much is
served by looking at runs, newest first, down to a floor; one that an index shows to match little, by those few alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.storage.records import RunFilter, RunRow


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
