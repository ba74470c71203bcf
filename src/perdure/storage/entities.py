"""What a store promises about finding entities: they are the runs that have a checkpoint to go on from.

That is known without the code, so whoever looks at a database sees them. One is found once its first call has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class EntityKey(NamedTuple):
    """Where an entity is: its run's key, and that run's id."""

    run: int
    id: str


class Entities(Protocol):
    """Entities in a database, as `store.entities`; of each its newest generation."""

    async def kinds(self) -> Sequence[tuple[str, int]]:
        """The workflows that entities are of, by name, and how many there are of each."""
        ...

    async def find(
        self, workflow: str, *, text: str | None = None, before: int | None = None, limit: int
    ) -> Sequence[EntityKey]:
        """Entities of one kind, those made last first.

        Args:
            text: part of the id.
            before: only those whose run's key is smaller.
        """
        ...
