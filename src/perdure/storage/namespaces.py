"""What a store promises about looking at one namespace: the lists and counts of survey.py, of its runs alone.

Runs of a namespace are found by an index that only they are in, newest last; so a look takes as long as there are runs
in the namespace, however many others there are. Ids and names are stored ones throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.storage.entities import EntityKey
from perdure.storage.survey import Ended, Finished, Tally


class Namespaces(Protocol):
    """Looking at one namespace, as `store.namespaces`. `within` is the prefix of its ids. Reads only."""

    async def all(self) -> Sequence[tuple[str, int]]:
        """The prefixes of the namespaces that have runs, by name, and how many each has, all generations."""
        ...

    async def floor(self, within: str, before: int | None, *, depth: int) -> int | None:
        """The highest key above which, and below `before`, there are at most `depth` runs of it; None if no more."""
        ...

    async def workflows(self, within: str, *, depth: int) -> Sequence[str]:
        """The workflows of its newest `depth` runs, by name."""
        ...

    async def tallies(self, within: str, statuses: Sequence[str] = ()) -> Sequence[Tally]:
        """How many of its runs are at what, of these statuses, or all."""
        ...

    async def of_kind(
        self, within: str, status: str, workflow: str, *, skip: int, limit: int
    ) -> Sequence[int]:
        """Keys of its runs of a workflow at a status, newest first."""
        ...

    async def finished(self, within: str, since: float, *, width: float, limit: int) -> Sequence[Finished]:
        """As Survey.finished."""
        ...

    async def blocked(self, within: str) -> Sequence[Tally]:
        """As Survey.blocked."""
        ...

    async def ends(self, within: str, since: float, *, limit: int) -> Sequence[Ended]:
        """As Survey.ends."""
        ...

    async def took(self, within: str, *, limit: int) -> Sequence[tuple[str, float]]:
        """As Survey.took."""
        ...

    async def driven_since(self, within: str, before: float, *, limit: int) -> Sequence[int]:
        """As Survey.driven_since."""
        ...

    async def kinds(self, within: str) -> Sequence[tuple[str, int]]:
        """As Entities.kinds."""
        ...

    async def entities(
        self, within: str, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        """As Entities.find; `text` is part of what follows the prefix."""
        ...

    async def waiting(self, within: str) -> Sequence[tuple[str, str, int]]:
        """As PublicationStore.waiting."""
        ...
