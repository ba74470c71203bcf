"""A run in a memory database."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.core.attributes import Attribute
from perdure.core.status import Status
from perdure.storage.chain import Damage, Proof, first_of, link, newest_of, origin, over
from perdure.storage.records import BlockCode, Detail, Mail, MailKind


class Run(msgspec.Struct):
    """A run with its history and inbox; the fields of RunRow, changeable."""

    run: int
    id: str
    workflow: str
    status: str
    queue: str
    fingerprint: bytes
    epoch: int
    owner: int | None
    created_at: float
    updated_at: float
    started_at: float | None
    wake_at: float | None
    parent: int | None
    parent_op: str | None
    on_parent_close: str
    events: list[bytes]
    links: list[int]
    chain: int
    ended_at: float | None = None
    recoveries: int = 0
    reason: str | None = None
    block_code: str | None = None
    attempt: int | None = None
    inbox: dict[int, Mail] = {}
    mail_keys: set[str] = set()
    generation: int = 1
    paused: float | None = None
    next: int | None = None
    details: dict[str, Detail] = {}
    version: str | None = None
    pinned: bool = False
    misfits: list[str] = []
    attributes: dict[str, Attribute] = {}
    patches: set[str] = set()
    checkpoint: int | None = None
    key: str | None = None
    priority: int = 0
    dedup: str | None = None
    slot: bool = False
    donor: str | None = None
    lane: str | None = None  #: where it stands in line
    rank: int | None = None

    def write(self, event: bytes, its_link: int | None = None) -> None:
        """Append an event, of which a driver has told the link."""
        self.chain = link(self.chain, event) if its_link is None else its_link
        self.events.append(event)
        self.links.append(self.chain)

    @property
    def held(self) -> bool:
        """Whether mail doesn't wake it."""
        return self.status == Status.PAUSED or (
            self.status == Status.BLOCKED and self.block_code != BlockCode.STEP
        )

    @property
    def asked_to_end(self) -> bool:
        """Whether it is full, and its mail may be a cancellation."""
        control = any(item.kind == MailKind.CONTROL for item in self.inbox.values())
        return control and self.status == Status.BLOCKED and self.block_code == BlockCode.LIMIT

    @property
    def replayable(self) -> tuple[bytes, ...]:
        """What a replay reads of its history."""
        if not self.checkpoint:
            return tuple(self.events)
        return (self.events[0], *self.events[self.checkpoint :])

    @property
    def damage(self) -> Damage | None:
        """What is wrong with its history."""
        if over(origin(self.id, self.generation), self.events) == self.chain:
            return None
        proof = Proof(self.id, self.generation, len(self.events), self.chain)
        for seq, (its_link, data) in enumerate(zip(self.links, self.events, strict=True), 1):
            proof.feed(seq, its_link, data)
        return first_of(proof.finish(), self.checkpoint)

    @property
    def newest(self) -> bytes | Damage:
        """Its newest event."""
        seq, before = len(self.events), self.links[-2] if len(self.links) > 1 else None
        return newest_of(self.id, self.generation, seq, self.chain, self.links[-1], self.events[-1], before)

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    def release(self, wake_at: float | None) -> None:
        self.owner = None
        self.wake_at = wake_at

    def unpause(self, now: float) -> bool:
        """It isn't to be held any more; False if it wasn't before."""
        damaged = self.block_code in (BlockCode.HISTORY, BlockCode.LIMIT)
        if (self.paused is None and not damaged) or self.ended:
            return False
        if damaged and self.owner is None:
            self.wake_at = now
        if self.status == Status.PAUSED:
            unbegun = self.started_at is None
            self.status, self.reason = (Status.QUEUED if unbegun else Status.WAITING).value, None
            self.wake_at = max(self.paused or 0.0, now) if unbegun else now
        self.paused, self.updated_at = None, now
        return True

    def set_attributes(self, attributes: Iterable[Attribute]) -> None:
        for attribute in attributes:
            self.attributes.pop(attribute.name, None)
            if attribute.values:
                self.attributes[attribute.name] = attribute

    def finish(self, status: str, reason: str | None, block_code: str | None, now: float) -> None:
        self.status, self.reason, self.block_code, self.ended_at = status, reason, block_code, now
        self.release(None)
        self.inbox = {key: item for key, item in self.inbox.items() if item.kind != MailKind.CONTROL}
        self.details.clear()
