"""Moving runs between databases: what a run consists of, in a form that no store owns, and what stores promise.

A run's *package* is everything that is kept of one run id: all its generations, with keys replaced by public ids and
numbers of generations. It is a list of *parts*, each of which is one line of an exported file, too. Two packages with
the same digest are the same run, whichever stores they come from.

A database that is moved away has a *mark*: no worker can claim runs in it any more. Copies arrive in the other
database *held*, owned by nobody's worker, so nothing can go on there. Then comes the *switch*: one transaction of the
source that ends all its live runs, or does nothing if anything there isn't as it was when it was copied. Only after
it the held copies are let go. So whatever is killed when, a run can go on in one place at most, and the next attempt
finds out by the mark how far the last one came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from perdure.codec.blobrefs import refuse_refs
from perdure.storage.chain import Damage, Proof, link, origin

#: The owner of runs that are held until their move is done. No worker has this id.
HELD = 0


class Part(msgspec.Struct, frozen=True, gc=False, tag_field="part"):
    """One thing that is kept of a run, of the generation with this number."""

    generation: int


class Generation(Part, frozen=True, gc=False, tag="generation"):
    """The row of one generation; see RunRow. `wake_at` is that of a run which nobody drives."""

    workflow: str
    status: str
    queue: str
    fingerprint: bytes
    seq: int
    chain: int
    created_at: float
    updated_at: float
    started_at: float | None
    ended_at: float | None
    wake_at: float | None
    recoveries: int
    semantics: int
    reason: str | None
    block_code: str | None
    parent_id: str | None
    parent_generation: int | None
    parent_op: str | None
    on_parent_close: str
    version: str | None
    pinned: bool
    paused: float | None
    misfits: tuple[str, ...]
    checkpoint: int | None
    key: str | None = None
    priority: int = 0
    dedup: str | None = None


class HistoryPart(Part, frozen=True, gc=False, tag="event"):
    """The next event of a history, encoded, with its place and link (see chain.py) as they are stored."""

    seq: int
    link: int
    data: bytes


class MailPart(Part, frozen=True, gc=False, tag="mail"):
    """The next item of an inbox."""

    kind: str
    data: bytes


class KeyPart(Part, frozen=True, gc=False, tag="mail_key"):
    """The key of mail that was delivered."""

    key: str


class DetailPart(Part, frozen=True, gc=False, tag="detail"):
    """What the newest heartbeat of a step told."""

    step: str
    data: bytes
    at: float


class CallbackPart(Part, frozen=True, gc=False, tag="callback"):
    """A promise; see CallbackRow."""

    token_hash: bytes
    op: str
    opened_at: float
    expires_at: float | None
    heartbeat: float | None
    heard_at: float
    state: str
    ended_at: float | None
    question: bytes | None = None
    answer: bytes | None = None


class AttributePart(Part, frozen=True, gc=False, tag="attribute"):
    """One value of an attribute; those of a list have places from 1."""

    name: str
    place: int
    family: str
    value: str | int | float


class PatchPart(Part, frozen=True, gc=False, tag="patch"):
    """A change of code whose new branch was taken."""

    change: str


class DonorPart(Part, frozen=True, gc=False, tag="donor"):
    """The id of the run that this one takes over from."""

    donor: str


class WaitPart(Part, frozen=True, gc=False, tag="wait"):
    """A wait for a publication; see OpenWait."""

    op: str
    name: str
    where: str
    since: float
    after: int


class UsagePart(Part, frozen=True, gc=False, tag="usage"):
    """An entry of the ledger; see Entry. None is open: nobody executes anything while runs are moved. One that is
    `counted` is in the totals of the database from which it was removed.
    """

    id: int
    state: str
    step: str
    name: str
    attempt: int
    at: float
    epoch: int
    errand: str
    workflow: str
    key: str | None
    model: str | None
    provider: str | None
    response: str | None
    input: int
    output: int
    cached: int
    written: int
    reasoning: int
    cost: int | None
    price: str | None
    spared: int
    counted: bool = False


class UpdatePart(Part, frozen=True, gc=False, tag="update"):
    """An update and its answer; see UpdateRow."""

    id: str
    call: bytes
    state: str
    answer: bytes | None


class ItemPart(Part, frozen=True, gc=False, tag="item"):
    """An item or mark of a stream; see StreamRow."""

    stream: str
    offset: int
    at: float
    step: str | None
    attempt: int | None
    data: bytes | None
    since: int


class WriterPart(Part, frozen=True, gc=False, tag="stream_writer"):
    """Which of a stream's items are a step's."""

    stream: str
    step: str
    attempt: int
    first: int
    last: int
    superseded: int
    open: bool


AnyPart: TypeAlias = (
    Generation
    | HistoryPart
    | MailPart
    | KeyPart
    | DetailPart
    | CallbackPart
    | AttributePart
    | PatchPart
    | DonorPart
    | WaitPart
    | UsagePart
    | UpdatePart
    | ItemPart
    | WriterPart
)

_encode = msgspec.json.Encoder(order="deterministic").encode


class Package(msgspec.Struct, frozen=True, gc=False):
    """Everything that is kept of one run id. The same run always gives the same parts in the same order."""

    id: str
    parts: Sequence[AnyPart]

    @property
    def generations(self) -> list[Generation]:
        return [part for part in self.parts if isinstance(part, Generation)]

    @property
    def live(self) -> bool:
        return any(generation.ended_at is None for generation in self.generations)

    def damage(self) -> list[Damage]:
        """What isn't as it was recorded in the histories of its generations."""
        found: list[Damage] = []
        for generation in self.generations:
            proof = Proof(self.id, generation.generation, generation.seq, generation.chain)
            for part in self.parts:
                if isinstance(part, HistoryPart) and part.generation == generation.generation:
                    proof.feed(part.seq, part.link, part.data)
            found += proof.finish()
        return found

    def under(self, id: str, recast: Callable[[int, bytes], bytes] | None = None) -> Package:
        """The same under another id. What is damaged stays so: where a link doesn't fit, the new one doesn't either.
        `recast` gives the bytes of an event in the new history, by its number and its bytes in this one.
        """
        moved: dict[int, tuple[int, int]] = {}  # by generation, the chain so far: as it was, as it is to be
        parts: list[AnyPart] = []
        for part in self.parts:
            number = part.generation
            if isinstance(part, HistoryPart):
                before, chain = moved.get(number) or (origin(self.id, number), origin(id, number))
                data = part.data if recast is None else recast(part.seq, part.data)
                chain = link(chain, data) ^ (link(before, part.data) ^ part.link)
                moved[number] = part.link, chain
                part = msgspec.structs.replace(part, link=chain, data=data)
            parts.append(part)
        for place, part in enumerate(parts):
            if isinstance(part, Generation):
                before, chain = moved.get(part.generation, (0, 0))
                parts[place] = msgspec.structs.replace(part, chain=chain ^ (before ^ part.chain))
        return Package(id, tuple(parts))

    def lines(self) -> list[bytes]:
        """Each part as JSON.

        Raises:
            MovingError: some of its events are elsewhere, and nobody has brought them.
        """
        refuse_refs(self.id, (part.data for part in self.parts if isinstance(part, HistoryPart)))
        return [_encode(part) for part in self.parts]

    def digest(self) -> bytes:
        hashed = hashlib.blake2b(self.id.encode(), digest_size=32)
        for line in self.lines():
            hashed.update(b"\n" + line)
        return hashed.digest()

    def counts(self) -> dict[str, int]:
        """How many parts of each kind there are."""
        counted: dict[str, int] = {}
        for part in self.parts:
            name = str(part.__struct_config__.tag)
            counted[name] = counted.get(name, 0) + 1
        return counted


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A database's runs are moved elsewhere.

    Attributes:
        token: random; which move it is.
        to: the url of the other database, without a password.
        done: the switch has happened: the runs aren't here any more.
    """

    token: str
    to: str
    done: bool = False


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A run at some moment, in short.

    Attributes:
        live: its newest generation hasn't ended.
        owned: a worker drives it.
        held: it arrived here in a move that isn't done yet.
        size: number of its events.
        parents: ids of the runs that started its generations.
        print: changes whenever anything of the run does that matters while nobody drives it.
    """

    id: str
    live: bool
    owned: bool
    held: bool
    size: int
    parents: Sequence[str]
    print: bytes


class Moving(Protocol):
    """The verbs for moving runs, as `store.moving`. Each is one transaction."""

    async def mark(self) -> Mark | None:
        """The mark of this database."""
        ...

    async def begin(self, mark: Mark) -> Mark:
        """Mark this database: from now on no worker claims a run here, and no schedule fires.

        Returns:
            The mark that is there; an earlier one stays.
        """
        ...

    async def give_up(self, token: str) -> bool:
        """Take back the mark of a move that isn't done. False: there is no such mark, or it is done."""
        ...

    async def stamps(self) -> list[Stamp]:
        """Every run, the longest known first."""
        ...

    async def read(self, ids: Sequence[str]) -> list[Package | None]:
        """The packages of these runs, driven or not; None for unknown ids."""
        ...

    async def put(self, packages: Sequence[Package], *, hold: str | None = None) -> list[bool]:
        """Make these runs, with all that belongs to them. A package's parents come before it, or are there already;
        a parent that is nowhere is forgotten.

        Args:
            hold: the token of the move to which they belong. They are held until `arrive`, and replace earlier
                held copies of the same move.

        Returns:
            For each whether it was made. It isn't if its id is taken.
        """
        ...

    async def switch(self, token: str, seen: bytes, event: bytes, *, now: float) -> bool:
        """End every live run with `event`, without telling anybody, and note that the move is done.

        Args:
            seen: what `everything` gives for the stamps of this database and its schedules.

        Returns:
            False, and nothing was done: something has changed since, or somebody drives a run.
        """
        ...

    async def arrive(self, token: str, *, now: float, limit: int) -> int:
        """Let at most `limit` held runs of a move go on as they were; returns how many there were."""
        ...

    async def drop(self, token: str) -> int:
        """Remove the held copies of a move that was given up; returns how many runs these were."""
        ...


def everything(stamps: Iterable[Stamp], schedules: Iterable[tuple[str, int]]) -> bytes:
    """A digest of all runs and of the schedules' versions."""
    hashed = hashlib.blake2b(digest_size=32)
    for stamp in sorted(stamps, key=lambda stamp: stamp.id):
        hashed.update(_encode((stamp.id, stamp.print)))
    hashed.update(_encode(sorted(schedules)))
    return hashed.digest()


#: Rows by table, as the stores keep them; see `packing`.
Tables: TypeAlias = Mapping[str, Sequence[Sequence[Any]]]
