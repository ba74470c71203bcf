"""What stores keep of publications and of those who want them, and what they promise.

A *publication* is an event with a name and a payload that somebody published. It is one row, and durable when it is
published; it may have come with a transaction of the user's own. Who wants it gets it afterwards, by `distribute`:
the workflows that subscribed, by new runs, and the runs that wait for it, by mail.

Publications get *numbers* there, under a lock, when they are first seen. So their order is the one in which they
became visible: one that is committed late comes late, and is never overlooked behind others. Everything else of a
distribution happens under that lock, too (distribution.py tells what), in the same transaction. It repeats
harmlessly, and whichever workers try, each publication reaches each subscriber once.

Numbers are microseconds of the wall clock, and always grow; so those of another database, from which a run came, are
comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from perdure.core.where import certain_fields, match_of_where, where_of
from perdure.storage.chance import chance
from perdure.storage.effects import Effect

if TYPE_CHECKING:
    from perdure.storage.records import NewRun


class Publication(msgspec.Struct, frozen=True, gc=False):
    """Something that was published.

    Attributes:
        id: made of name and key, if it has a key; a second one with this id isn't made.
        at: when it was published, wall-clock seconds.
        number: its place in the order of all, None until a worker has seen it.
        settled: everybody who wanted it has it.
    """

    id: str
    name: str
    key: str | None
    payload: bytes
    at: float
    number: int | None = None
    settled: bool = False


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """A workflow that is started by an event.

    Attributes:
        event: the name of the event.
        where: which of those, as of core/where.py.
        queue: where its runs go.
        pinned: its runs stay with the version that begins them.
        since: when it began, wall-clock seconds.
        begins: it gets publications with higher numbers.
        debounce: seconds without another one after which a run starts, with the last one.
        batch: most payloads that a run gets, as a list; within: most seconds that the first of them waits.
        by: a field of the payload; those that differ in it have nothing to do with each other.
    """

    workflow: str
    event: str
    where: str = ""
    queue: str = "default"
    pinned: bool = False
    debounce: float | None = None
    batch: int | None = None
    within: float | None = None
    by: str | None = None
    since: float = 0.0
    begins: int = 0

    @property
    def terms(self) -> tuple[object, ...]:
        """What its user says of it."""
        return msgspec.structs.astuple(self)[1:-2]


class Gathering(msgspec.Struct, frozen=True, gc=False):
    """Publications that a workflow gets together, or the last one of which it gets.

    Attributes:
        group: of those that belong together.
        due_at: when they are handed over.
        count: how many there are.
    """

    workflow: str
    group: str
    due_at: float
    count: int


class Gathered(msgspec.Struct, frozen=True, gc=False):
    """A publication in a gathering."""

    number: int
    at: float
    payload: bytes


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A run that waits for a publication."""

    run: int
    op: str
    name: str
    where: str
    since: float
    after: int


class Publish(Effect, frozen=True, gc=False):
    """Publish something. One with its id that is there already is left as it is."""

    publication: Publication


class OpenWait(Effect, frozen=True, gc=False):
    """The appending run waits for a publication: the first fitting one, by PublicationArrived. A wait under this op
    is replaced.

    Attributes:
        where: which of those with this name, as of core/where.py.
        since: that were published at this moment or later.
        after: that have a higher number.
    """

    op: str
    name: str
    where: str
    since: float
    after: int

    @property
    def fields(self) -> str:
        return fields_text(self.where)

    @property
    def match(self) -> bytes:
        return match_of_where(self.name, where_of(self.where))


class CloseWait(Effect, frozen=True, gc=False):
    """The appending run doesn't wait for this any more."""

    op: str


class CloseWaits(Effect, frozen=True, gc=False):
    """The appending run waits for no publication any more."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """Whether there is something to distribute now, and when there will be by the clock."""

    due: bool
    next_at: float | None


class Distributed(msgspec.Struct, frozen=True, gc=False):
    """What a distribution did.

    Attributes:
        runs: how many runs it started.
        mail: how many it sent to waiting runs.
        more: there is more to do at once.
        busy: somebody else is distributing, and nothing was done.
    """

    runs: int = 0
    mail: int = 0
    more: bool = False
    busy: bool = False


class Sealer(Protocol):
    """Opens and seals what a distribution reads and writes within the store, in whichever thread that is."""

    def publication(self, publication: Publication) -> Publication | None:
        """A publication with its payload opened; None: that isn't possible here."""
        ...

    def gathered(self, gathering: Gathering, item: Gathered) -> Gathered:
        """A publication in a gathering, as it is kept."""
        ...

    def content(self, gathering: Gathering, item: Gathered) -> Gathered | None:
        """The same opened."""
        ...

    def mail(self, id: str, event: bytes) -> bytes:
        """An event for the inbox of a run."""
        ...

    def run(self, run: NewRun) -> NewRun:
        """A run that is started."""
        ...


class PublicationStore(Protocol):
    """Publications in a store, as `store.publications`. Each verb is one transaction.

    Attributes:
        sealer: opens and seals payloads; None if they are kept as they are.
    """

    sealer: Sealer | None

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        """Add publications; tells for each whether it is new. Those with an id that is there are left alone."""
        ...

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        """Make subscriptions known, each instead of the one that its workflow has.

        A new one, or one to another event, begins now: it gets what is committed from now on. One to the same event
        takes over where that stands.
        """
        ...

    async def unsubscribe(self, workflow: str) -> bool:
        """Remove a workflow's subscription, with what is gathered for it. False: it has none."""
        ...

    async def subscriptions(self) -> list[Subscription]:
        """All of them, by workflow."""
        ...

    async def waiting(self) -> list[tuple[str, str, int]]:
        """For what runs wait: name, condition and how many do, by name. At most 1000 of these."""
        ...

    async def pending(self, *, now: float) -> Pending:
        """Whether a distribution would do something. Cheap."""
        ...

    async def distribute(self, *, now: float) -> Distributed:
        """Bring publications to those who want them, a bounded number at a time."""
        ...

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        """Publications, newest first; with `before` those with lower numbers.

        Args:
            within: if no name is given, only those of the namespace whose names begin with this.
        """
        ...

    async def forget(self, *, before: int, limit: int) -> int:
        """Delete settled publications with numbers lower than `before`; returns how many."""
        ...


_encode = msgspec.json.Encoder().encode
_subscription = msgspec.json.Decoder(Subscription).decode


def encode_subscription(subscription: Subscription) -> bytes:
    """As the stores keep it."""
    return _encode(subscription)


def subscription_in(data: bytes) -> Subscription:
    """The subscription that a store's row holds."""
    return _subscription(data)


def continues(subscription: Subscription, known: Mapping[str, Subscription]) -> bool:
    """Whether a subscription takes over from the one that its workflow has."""
    standing = known.get(subscription.workflow)
    return standing is not None and standing.event == subscription.event


def following(
    subscription: Subscription, standing: Subscription | None, last: int, now: float
) -> Subscription:
    """A subscription as it is from now on.

    Args:
        standing: what its workflow has.
        last: the highest number so far.
    """
    since, begins = now, last
    if standing is not None and standing.event == subscription.event:
        since, begins = standing.since, standing.begins
    return msgspec.structs.replace(subscription, since=since, begins=begins)


def fields_text(where: str) -> str:
    """The fields by which a wait is known, as text."""
    return _encode(certain_fields(where_of(where))).decode()


def newest_first(
    new: Sequence[Publication], numbered: Sequence[Publication], limit: int
) -> list[Publication]:
    """One list of those without a number, the oldest first, and of those with one, the newest first.

    What has got its number between the two looks is in both.
    """
    known = {one.id for one in numbered}
    return [*(one for one in reversed(new) if one.id not in known), *numbered][:limit]


def wait_row(run: int, op: str, name: str, where: str, since: float, after: int) -> tuple[Any, ...]:
    """A wait with all that is kept of it: run, op, name, where, fields, match, since, after."""
    return (
        run,
        op,
        name,
        where,
        fields_text(where),
        match_of_where(name, where_of(where)),
        float(since),
        after,
    )


def keyed_id(name: str, key: str) -> str:
    """The id of a publication with a key."""
    return blake2b(f"{name}\n{key}".encode(), digest_size=16).hexdigest()


def op_id(run_id: str, keys: int, op: str) -> str:
    """The id of a publication without a key that a run, or a step of it, made."""
    return blake2b(f"{run_id}\n{keys}\n{op}".encode(), digest_size=16, person=b"publication").hexdigest()


def new_id() -> str:
    """The id of any other publication."""
    return chance.token_hex(16)


def numbers_for(ids: Sequence[str], last: int, now: float) -> list[tuple[str, int]]:
    """The numbers that these publications get now, after the highest one so far."""
    first = max(last + 1, number_at(now))
    return [(id, first + place) for place, id in enumerate(ids)]


def number_at(moment: float) -> int:
    """The lowest number that a publication can get at this moment."""
    return max(0, int(moment * 1e6))
