"""What a store promises about what it keeps sealed: it can be looked through, and replaced piece by piece.

So keys are rotated: each piece is opened, sealed anew with the newest key, and put in the place of what was there, if
that hasn't changed. The link of an event stays the same (see codec/sealing/envelope.py), so whoever drives a run
meanwhile needn't know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

Key: TypeAlias = tuple[Any, ...]

#: The kinds of things that are kept sealed, with what a key begins with that is smaller than all others.
KINDS: dict[str, Key] = {
    "events": (-1, -1),
    "mail": (-1,),
    "details": (-1, ""),
    "questions": (b"",),
    "answers": (b"",),
    "items": (-1, -1),
    "updates": ("", ""),
    "schedules": ("",),
    "publications": ("",),
    "gathered": ("", "", -1),
    "money": (-1, ""),
    "metadata": ("", "", ""),
    "checkpoints": ("", "", ""),
    "channels": ("", "", "", ""),
    "writes": ("", "", "", "", -(2**40)),
    "reasons": (-1,),
}


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Something that is kept sealed.

    Attributes:
        key: of its row.
        about: what its place is made of: ids and names, see sealing/rotation.py; of an event its link and the one
            before it, too.
        data: bytes; of a reason its text.
    """

    key: Key
    about: tuple[Any, ...]
    data: Any


class Resealing(Protocol):
    """The verbs for rotating keys, as `store.resealing`. Each is one transaction."""

    async def pieces(self, kind: str, *, after: Key, limit: int) -> Sequence[Piece]:
        """Pieces of a kind with a key behind this one, in order. A store that doesn't outlive its process has none."""
        ...

    async def replace(self, kind: str, pieces: Sequence[tuple[Key, Any, Any]]) -> int:
        """Put (key, old, new) in the place of what is there, where that is still the old; returns how many were."""
        ...
