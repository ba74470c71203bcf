"""What stores keep of the keys of subjects, and promise about them.

A *data key* belongs to a subject (a customer, say), or to one run. It is kept wrapped: encrypted with a key that isn't
in the database. When it is destroyed, what was sealed with it can't be read any more by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

#: What the names of single runs' keys begin with.
OF_RUN = "run:"
#: The subject of the index key, which every database has that something was sealed in; see sealing/index.py.
INDEX = "index"
_OF_SUBJECT = "subject:"


def name_of_subject(subject: str) -> str:
    """How the key of a subject is found."""
    return _OF_SUBJECT + subject


def name_of_run(id: str) -> str:
    """How the key of a single run is found."""
    return OF_RUN + id


class KeyRow(msgspec.Struct, frozen=True, gc=False):
    """A data key.

    Attributes:
        subject: whose it is. A subject has one that isn't destroyed, at most.
        ring: the id of the key that it is wrapped with.
        wrapped: None once it is destroyed.
        created_at, erased_at: wall-clock seconds.
    """

    id: str
    subject: str
    ring: str
    wrapped: bytes | None
    created_at: float
    erased_at: float | None = None


class KeyStore(Protocol):
    """Data keys, as `store.keys`. Each verb is one transaction."""

    async def obtain(self, row: KeyRow) -> KeyRow:
        """The key that the subject has; if it has none, this one, which is kept."""
        ...

    async def get(self, ids: Sequence[str]) -> list[KeyRow | None]:
        """These keys, destroyed ones, too; None for unknown ids."""
        ...

    async def of(self, subject: str) -> list[KeyRow]:
        """All keys that a subject has had, the oldest first."""
        ...

    async def page(self, *, after: str, limit: int) -> list[KeyRow]:
        """Keys with an id behind this one, by id."""
        ...

    async def rewrap(self, id: str, ring: str, *, to: str, wrapped: bytes) -> bool:
        """Wrap a key with another key of the ring. False: it isn't wrapped with `ring` any more, or was destroyed."""
        ...

    async def erase(self, id: str, *, now: float) -> bool:
        """Destroy a key: what it was wrapped in is overwritten. False: there is none, or it was destroyed before."""
        ...
