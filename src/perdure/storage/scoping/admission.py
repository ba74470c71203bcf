"""Who may put more into a database: what is asked before a namespace gets something new.

Here quotas have their place. A scoped store asks before it writes anything that makes the namespace larger; to refuse
is to raise. What runs do by themselves (children, continued runs, what a schedule fires) isn't asked about: a run that
has begun must be able to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.storage.publications import Publication
from perdure.storage.records import NewRun


class Admission(Protocol):
    """Decides whether a namespace may have more."""

    async def runs(self, namespace: str, runs: Sequence[NewRun]) -> None:
        """Somebody outside starts runs; some of them may exist already. Ids are stored ones.

        Raises:
            PerdureError: it may not have them; nothing is written.
        """
        ...

    async def publications(self, namespace: str, publications: Sequence[Publication]) -> None:
        """Somebody outside publishes something. Raises what `runs` does."""
        ...
