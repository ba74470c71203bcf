"""What a store promises about removing runs that have ended.

A run goes with all of its generations. In one transaction its rows in `runs` go, so that its id means nothing any more
and is free again, and what else belongs to it becomes a *remainder*: rows of other tables under keys that are never
given again, which nobody looks up any more. `sweep` removes these, a few at each call. So the longest run is removed in
transactions that are all short, and whoever is killed between two of them leaves nothing but remainders for the next.

Runs that it has started go after it: once it is gone they are *orphans*. A run with somebody who needs it stays; see
`needed`. Who removes runs takes turns by a row in the store, which also holds its *plan*: which runs are about to be
written to which archive. Whoever takes the turn over finishes that plan first.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec


class EndedRun(msgspec.Struct, frozen=True, gc=False):
    """A run that has ended, in its newest generation.

    Attributes:
        run: its key.
        seq: how many events that generation has.
        parent: whether the run that started it is there: it "ended", is "live", has "mail" besides, or None.
        newest: False of an earlier generation, which is listed, too.
    """

    run: int
    id: str
    workflow: str
    status: str
    ended_at: float
    seq: int
    parent: str | None = None
    newest: bool = True


class Orphan(msgspec.Struct, frozen=True, gc=False):
    """A run that has ended and whose parent was removed; `archive` is where that one went, "" = nowhere."""

    run: EndedRun
    archive: str


class Turn(msgspec.Struct, frozen=True, gc=False):
    """The right to remove runs.

    Attributes:
        plan: what was noted by whoever had it last, and isn't done.
    """

    plan: bytes | None = None


class Sweeping(msgspec.Struct, frozen=True, gc=False):
    """Who removes runs, or did last.

    Attributes:
        until: when the turn ends or has ended; 0 = it was given back.
        at: when the turn was last taken or kept.
        rules: by which it does, as it has noted them.
    """

    holder: str
    until: float
    at: float
    rules: bytes


class Removal(StrEnum):
    """What came of the wish to remove a run."""

    GONE = "gone"  #: its id means nothing any more
    PART = "part"  #: it is large: some of it went, ask again
    STAYS = "stays"  #: it isn't as it was any more


class Swept(msgspec.Struct, frozen=True, gc=False):
    """What one step has removed of remainders.

    Attributes:
        done: nothing is left that can be removed now.
    """

    rows: int
    bytes: int
    done: bool


class Retaining(Protocol):
    """The verbs for removing runs, as `store.retention`. Each is one transaction, and a short one."""

    async def turn(self, holder: str, *, now: float, until: float, rules: bytes = b"") -> Turn | None:
        """Take the turn, or keep it, until then. None: somebody else has it.

        Args:
            rules: noted for people, unless they are empty.
        """
        ...

    async def sweeping(self) -> Sweeping | None:
        """Who has the turn, or had it last."""
        ...

    async def note(self, holder: str, plan: bytes | None) -> bool:
        """Note what is about to be done. False: somebody else has the turn by now."""
        ...

    async def leave(self, holder: str) -> None:
        """Give the turn back."""
        ...

    async def ended(
        self, *, before: float, after: tuple[float, int] = (0.0, 0), limit: int
    ) -> list[EndedRun]:
        """Runs that have ended before a moment, in the order of (ended_at, run), beyond that place."""
        ...

    async def orphans(self, *, limit: int) -> list[Orphan]:
        """Runs whose parents were removed."""
        ...

    async def needed(self, runs: Sequence[int]) -> dict[int, str]:
        """Which of these runs have to stay, and why: a run that it has started goes on, or one of those; a live
        fork takes over from it; money is held for calls of it or of these; or its database is being moved.
        """
        ...

    async def remove(
        self, runs: Sequence[tuple[int, int]], *, archive: str = "", now: float, rows: int
    ) -> list[Removal]:
        """Remove runs, given by key and number of events, if they are as they were.

        Args:
            archive: where they were written to, which is told of their orphans.
            rows: of each about so many rows go at most.
        """
        ...

    async def sweep(self, *, rows: int, bytes: int) -> Swept:
        """Remove at most so many rows of remainders, and so many bytes but for one row."""
        ...


#: Why a run has to stay.
FAMILY = "a run that it started goes on"
FORKED = "a live fork takes over from it"
HELD = "money is held for calls of which nobody knows what they cost"
MOVING = "the database is being moved"

#: Remainders of so many runs are looked at in one step.
AT_ONCE = 50
#: How many runs a family may have that is looked through.
FAMILY_MAX = 100_000
