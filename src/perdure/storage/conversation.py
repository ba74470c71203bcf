"""What a distribution of publications asks of a store, and tells it to write. See distribution.py."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.storage.publications import Gathered, Gathering
from perdure.storage.records import NewRun


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Something that a distribution asks of the store."""


class Lock(Ask, frozen=True):
    """Keep everybody else from distributing until the end of the transaction.

    Answer: what there is to do; None if somebody else has the lock, or runs are moved elsewhere.
    """

    now: float


class ToDo(msgspec.Struct, frozen=True, gc=False):
    """What there is to do. It may be out of date by what others have just committed, which the next one will see.

    Attributes:
        last: the highest number given so far, which is up to date.
        new, waits, unsettled, due: whether there are publications without a number, waits that haven't looked back,
            publications that aren't settled, gatherings that are due.
        subscribed: whether there are subscriptions.
    """

    last: int
    new: bool
    waits: bool
    unsettled: bool
    due: bool
    subscribed: bool


class Unnumbered(Ask, frozen=True):
    """Answer: the ids of publications without a number, the oldest first."""

    limit: int


class Number(Ask, frozen=True):
    """Give publications, by id, their numbers; the last one is the highest."""

    numbers: Sequence[tuple[str, int]]


class NewWaits(Ask, frozen=True):
    """Answer: waits that haven't looked back yet."""

    limit: int


class Numbered(Ask, frozen=True):
    """Answer: publications of this name with higher numbers than `after`, in order."""

    name: str
    after: int
    limit: int


class LookedBack(Ask, frozen=True):
    """These waits (run, op) aren't new any more."""

    waits: Sequence[tuple[int, str]]


class Unsettled(Ask, frozen=True):
    """Answer: numbered publications that aren't settled, in order."""

    limit: int


class Shapes(Ask, frozen=True):
    """Answer: (name, fields) by which there have been waits for events of these names."""

    names: Sequence[str]


class Takers(Ask, frozen=True):
    """Answer: waits that aren't new and have one of these digests, by run and op, after that one."""

    matches: Sequence[bytes]
    after: tuple[int, str]
    limit: int


class Deliver(Ask, frozen=True):
    """End these waits (run, op), by run, and put the encoded events into the runs' inboxes; not if one has ended."""

    mail: Sequence[tuple[int, str, bytes]]
    now: float


class Subscriptions(Ask, frozen=True):
    """Answer: the subscriptions to these events, and those of these workflows, by workflow."""

    events: Sequence[str] = ()
    workflows: Sequence[str] = ()


class Settle(Ask, frozen=True):
    """These publications, by id, are settled."""

    ids: Sequence[str]


class GatheringOf(Ask, frozen=True):
    """Answer: the gathering of a workflow's group, None if there is none."""

    workflow: str
    group: str


class DueGatherings(Ask, frozen=True):
    """Answer: gatherings that are due, the longest due first."""

    now: float
    limit: int


class Content(Ask, frozen=True):
    """Answer: what is in a gathering, in order."""

    workflow: str
    group: str
    limit: int


class Keep(Ask, frozen=True):
    """Put a gathering as it is now, with `added`, and without what has numbers up to `dropped`; one with nothing in
    it is removed."""

    gathering: Gathering
    added: Sequence[Gathered] = ()
    dropped: int = 0


class Start(Ask, frozen=True):
    """Create runs. Answer: how many are new."""

    runs: Sequence[NewRun]


class Ids(Ask, frozen=True):
    """Answer: the id of each of these runs, by its key."""

    runs: Sequence[int]
