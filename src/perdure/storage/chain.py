"""The checksum chain over a run's history, by which damage is seen before it does harm.

Each event has a *link*: the CRC-32 of everything from the run's *origin* (its id and generation) up to and with this
event. The run's row keeps the link of its newest event as the *chain*. A byte that has changed, an event that is
missing, came twice, stands elsewhere or belongs to another run: all of that gives another chain than the row says. So
one look at the row proves a whole history, and the links say which of its events is to blame.

A driver computes links from the bytes that it has just encoded, before they go anywhere; a store computes those of the
few events that it writes by itself. They guard against accidents (a bad disk, a stray UPDATE, a restored table), not
against somebody who wants to deceive: whoever can write to the database can compute them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from zlib import crc32

import msgspec

#: Goes behind each event, so that bytes can't change over to its neighbour unseen. (Where such a byte is in an event,
#: both could be parted there instead; then neither can be decoded.)
END = b"\n"

#: So many findings of one history are told; the rest is counted.
TOLD_MAX = 20


def origin(id: str, generation: int) -> int:
    """What the chain of a run begins with."""
    return crc32(f"{generation} {id}".encode("utf-8", "surrogatepass"))


def link(chain: int, event: bytes) -> int:
    """The link of an event that is appended to a history with this chain."""
    return crc32(event + END, chain)


def links(chain: int, events: Sequence[bytes]) -> list[int]:
    """The links of events that are appended to a history with this chain."""
    if len(events) == 1:  # the hot path: one step's outcome
        return [crc32(events[0] + END, chain)]
    found: list[int] = []
    for event in events:
        chain = crc32(event + END, chain)
        found.append(chain)
    return found


def first_link(id: str, generation: int, event: bytes) -> int:
    """The link of a run's first event."""
    return link(origin(id, generation), event)


def over(chain: int, events: Sequence[bytes]) -> int:
    """The chain after these events, by one pass over all of them."""
    return crc32(END.join(events) + END, chain) if events else chain


class DamageKind(StrEnum):
    """What is wrong with a history, or what goes with it."""

    CONTENT = "content"  #: an event isn't what was recorded
    CHECKSUM = "checksum"  #: an event is what was recorded, but its own link isn't; a replay is right
    MISSING = "missing"  #: an event isn't there
    SURPLUS = "surplus"  #: there is an event behind the newest one
    HEAD = "head"  #: the run's row says something else than its events do
    UNREADABLE = "unreadable"  #: the database can't read it


class Damage(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        seq: the event it is about, None if it isn't about one.
        text: what was found, for people.
    """

    kind: DamageKind
    seq: int | None
    text: str


class Proof:
    """Looks through one history, in order and a page at a time, and finds what is wrong with it.

    Args:
        id, generation, seq, chain: as the run's row says.
    """

    def __init__(self, id: str, generation: int, seq: int, chain: int) -> None:
        self._seq = seq
        self._chain = chain
        self._value: int | None = origin(id, generation)  # None where an event is missing before
        self._at = 0
        self._suspect: tuple[int, int, int] | None = None  # a seq, its link as computed, and as stored
        self.found: list[Damage] = []
        self.untold = 0

    def feed(self, seq: int, stored: int, data: bytes) -> None:
        """The next event as it is stored."""
        if seq > self._at + 1 and self._at < self._seq:
            self._settle(None)
            self._miss(self._at + 1, min(seq - 1, self._seq))
            self._value = None
        self._at = seq
        if seq > self._seq:
            self._settle(None)
            self._tell(DamageKind.SURPLUS, seq, f"event {seq} is behind the newest one, which is {self._seq}")
            return
        if self._suspect is not None:
            fits = link(self._suspect[1], data) == stored
            self._value = self._suspect[1] if fits else self._value
            self._settle(fits)
        computed = None if self._value is None else link(self._value, data)
        if computed is not None and computed != stored:
            self._suspect = seq, computed, stored
        self._value = stored

    def finish(self) -> list[Damage]:
        """All that was found, the first of them first."""
        if self._suspect is not None:
            self._settle(self._suspect[1] == self._chain)
        if self._at < self._seq:
            self._miss(self._at + 1, self._seq)
        elif not self.found and self._value != self._chain:
            text = (
                f"the run's row has the checksum {self._chain:08x}, its newest event {self._value or 0:08x}"
            )
            self._tell(DamageKind.HEAD, None, text)
        return self.found

    def _settle(self, fits: bool | None) -> None:
        """What an event's link that didn't fit means: whether what follows fits to the event's content tells."""
        if self._suspect is None:
            return
        seq, computed, stored = self._suspect
        self._suspect = None
        if fits:
            text = (
                f"event {seq} is what was recorded, but its checksum isn't: {stored:08x} for {computed:08x}"
            )
            self._tell(DamageKind.CHECKSUM, seq, text)
        else:
            text = f"event {seq} isn't what was recorded: its checksum is {computed:08x}, not {stored:08x}"
            self._tell(DamageKind.CONTENT, seq, text)

    def _miss(self, first: int, last: int) -> None:
        what = f"event {first} is" if first == last else f"events {first} to {last} are"
        self._tell(DamageKind.MISSING, first, f"{what} missing")

    def _tell(self, kind: DamageKind, seq: int | None, text: str) -> None:
        if len(self.found) < TOLD_MAX:
            self.found.append(Damage(kind, seq, text))
        else:
            self.untold += 1


def is_sound(
    id: str,
    generation: int,
    seq: int,
    chain: int,
    checkpoint: int | None,
    link_there: int | None,
    seqs: Sequence[int],
    first_link: int,
    events: Sequence[bytes],
) -> bool:
    """Whether what was read of a history for a replay is what was recorded.

    Args:
        id, generation, seq, chain, checkpoint: as the run's row says.
        link_there: of the event at the checkpoint.
        seqs, events: all; or with a checkpoint the first one, and those behind it.
        first_link: of the first one.
    """
    value, after = origin(id, generation), 0
    if checkpoint:
        if link_there is None or not events or seqs[0] != 1 or link(value, events[0]) != first_link:
            return False
        seqs, events, value, after = seqs[1:], events[1:], link_there, checkpoint
    dense = len(seqs) == seq - after and (not seqs or seqs[-1] == seq)
    return dense and over(value, events) == chain


def first_of(found: Sequence[Damage], checkpoint: int | None) -> Damage:
    """What is said first of a history that isn't sound."""
    grave = [damage for damage in found if damage.kind is not DamageKind.CHECKSUM]
    for damage in (*grave, *found):
        return damage
    text = (
        f"the run's row says that a replay may go on after event {checkpoint}, which doesn't fit its history"
    )
    return Damage(DamageKind.HEAD, checkpoint, text)


def newest_of(
    id: str,
    generation: int,
    seq: int,
    chain: int,
    its_link: int | None,
    data: bytes | None,
    before: int | None,
) -> bytes | Damage:
    """The newest event of a run, if it is what was recorded.

    Args:
        id, generation, seq, chain: as the run's row says.
        its_link, data: the event, None if it isn't there.
        before: the link of the event before it.
    """
    if data is None:
        return Damage(DamageKind.MISSING, seq, f"event {seq} is missing")
    if seq == 1:
        before = origin(id, generation)
    if before is None:
        return Damage(DamageKind.MISSING, seq - 1, f"event {seq - 1} is missing")
    computed = link(before, data)
    if computed != chain:
        text = f"event {seq} isn't what was recorded: its checksum is {computed:08x}, not {chain:08x}"
        return Damage(DamageKind.CONTENT, seq, text)
    return data


def unreadable(error: Exception) -> Damage:
    """For what the database itself can't read any more."""
    return Damage(DamageKind.UNREADABLE, None, f"the database can't read it: {error}")


def surplus(seq: int) -> Damage:
    """For a history in which the place for the event after this one is taken."""
    text = f"the newest event is {seq}, but there is another one behind it"
    return Damage(DamageKind.SURPLUS, seq + 1, text)
