"""Looking through a whole database for damage, beside those who work with it: what an auditor reads.

An auditor has a connection of its own that can't write, and reads a page at a time, so that databases of any size can
be checked. Each of its verbs sees one moment, two of them see two: whoever compares must ask again whether what doesn't
fit is still so (see runtime/checking.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

#: Tables whose rows belong to a run, by its key.
OF_RUNS = (
    "events",
    "inbox",
    "mail_keys",
    "step_details",
    "callbacks",
    "attributes",
    "patches",
    "stream_writers",
    "publication_waits",
)


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What is said of one generation of a run.

    Attributes:
        run: the key.
        mail: how many inbox items its row counts.
        inbox: how many there are.
        checkpoint: the event after which a replay may go on.
        next: the key of the generation that follows it.
        next_is_there: that generation exists, under the same id.
        known: the run is found by its id, if it is the newest generation.
    """

    run: int
    id: str
    generation: int
    seq: int
    chain: int
    status: str
    mail: int
    inbox: int
    checkpoint: int | None
    next: int | None
    next_is_there: bool
    known: bool


class Replayable(msgspec.Struct, frozen=True, gc=False):
    """What a replay has to know of one generation of a run.

    Attributes:
        run: the key.
        status, seq, chain, checkpoint: as its row says.
        began: when it was first driven, or else created, wall-clock seconds.
        driven: it has been driven.
        version: of the code that drives it, or drove it last; None before anybody did.
        pinned: only workers of that version may drive it.
    """

    run: int
    id: str
    generation: int
    workflow: str
    status: str
    seq: int
    chain: int
    checkpoint: int | None
    began: float
    driven: bool
    version: str | None
    pinned: bool


class Stray(msgspec.Struct, frozen=True, gc=False):
    """Rows of a table that belong to a run which isn't there."""

    table: str
    run: int
    rows: int


class Auditor(Protocol):
    """A connection that only reads. Its verbs block; one thread uses it.

    Attributes:
        where: the database, for people.
    """

    where: str

    def close(self) -> None:
        """Disconnect."""
        ...

    def runs(self, *, after: int, limit: int) -> Sequence[Standing]:
        """Runs with a key > after, in the order of their keys; all generations."""
        ...

    def standing(self, run: int) -> Standing | None:
        """The same of one run, as it is now."""
        ...

    def replayable(self, *, after: int, limit: int, finished: bool = False) -> Sequence[Replayable]:
        """Runs with a key > after that haven't ended, in the order of their keys.

        Args:
            finished: those that have ended, too, all generations.
        """
        ...

    def keys(self, id: str) -> Sequence[int]:
        """The keys of all generations of a run."""
        ...

    def events(self, run: int, *, after: int, limit: int) -> Sequence[tuple[int, int, bytes]]:
        """(seq, link, encoded event) of a history with seq > after, in order."""
        ...

    def strays(self, *, after: int, upto: int | None) -> Sequence[Stray]:
        """Rows of runs that aren't there, with keys > after and <= upto (None: all)."""
        ...

    def complaints(self) -> Sequence[str]:
        """What the database itself finds wrong with its files, or has found since it began to count."""
        ...
