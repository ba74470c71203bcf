"""The values that cross the storage seam: plain, immutable, without behaviour.

Times are wall-clock seconds since the epoch. Events travel encoded: a store keeps bytes and never
looks inside a payload. `run` is always the store's own integer key of a run, `id` the public text.

Runs and what changes them are here, what an append does besides is in effects.py, and who drives in workers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from perdure.core.attributes import Attribute, Condition
from perdure.storage.chain import Damage
from perdure.storage.effects import Effect


class ParentPolicy(StrEnum):
    """What happens to a child run when its parent ends first."""

    CANCEL = "cancel"
    ABANDON = "abandon"
    TERMINATE = "terminate"


class BlockCode(StrEnum):
    """Why a run is blocked, as far as the engine acts on it; `reason` is the text for people."""

    CODE = "code"  #: goes on by itself when a worker with fitting code registers
    STEP = "step"  #: a step waits for a person's decision, which comes by mail; other mail wakes it, too
    POISON = "poison"  #: took its worker down too often; waits for a person
    LIMIT = "limit"  #: its history is full; waits for a person: a cancellation, or to be resumed
    HISTORY = "history"  #: its history isn't what was recorded; waits for a person


class MailKind(StrEnum):
    """What becomes of an inbox item that is still there when its run ends."""

    CONTROL = "control"  #: it is dropped: a cancellation, a child's end
    MESSAGE = "message"  #: it is kept, and shown as undelivered


class Delivery(StrEnum):
    """What became of mail."""

    DELIVERED = "delivered"
    UNKNOWN_RUN = "unknown_run"
    RUN_ENDED = "run_ended"
    INBOX_FULL = "inbox_full"  #: too many messages wait there
    REPEATED = "repeated"  #: an item with its key was delivered before


def worst_of(answers: Sequence[Delivery]) -> Delivery:
    """What became of mail that goes together."""
    return next(
        (bad for bad in (Delivery.RUN_ENDED, Delivery.INBOX_FULL) if bad in answers), Delivery.DELIVERED
    )


class NewMail(msgspec.Struct, frozen=True, gc=False):
    """An inbox item to come: an encoded event.

    Attributes:
        key: a second item with this key is never put into the same run's inbox, whatever became of the first.
    """

    data: bytes
    kind: MailKind = MailKind.MESSAGE
    key: str | None = None


class NewRun(msgspec.Struct, frozen=True, gc=False):
    """A run to create. Creating is idempotent by `id`.

    Attributes:
        fingerprint: digest of workflow name and encoded input, to tell a repeat from a conflict.
        first_event: the encoded RunStarted event, stored as seq 1.
        wake_at: when it may first be driven (later than created_at for delayed runs).
        owner: the worker that drives it from the start (it gets epoch 1 and started_at = created_at),
            or None to leave it to whoever claims it. One that isn't registered counts as None.
        parent: the parent run's key, None for a top-level run.
        parent_op: the op id under which the parent waits for it.
        mail: what its inbox holds from the start.
        attach: a live run that has the id already, with this workflow and fingerprint, gets the mail, too.
        generation: which run of this id it is, from 1.
        follows: key of the ended run whose next generation it is. It is made only if nothing follows that
            run yet; else it counts as existing.
        inherit: it does again what that run has failed to do: that one's undelivered messages go over to it, after
            `mail`, and the keys of its mail; what its steps without a result have put into streams is void.
        attributes: what it can be found by.
        pinned: it is driven only by workers of the code version that drove it first.
        key, priority: what its queue may go by. One that follows another and says nothing of these has that one's.
        dedup: no other live run may have the same, see `Store.create`. What follows another run keeps that one's.
        debounce: a run with that dedup which nobody has driven yet takes over what this one brings.
        at_most: so many seconds after that one's creation it starts, however often it is put off.
        slot: it goes on with the slot that the run it follows has held; stores set it.
        donor: id of another run that it takes over from, and that has to stay while it lives.
        subject: whose data it holds, see storage/keys.py. Only sealed stores go by it.
    """

    id: str
    workflow: str
    fingerprint: bytes
    first_event: bytes
    queue: str
    created_at: float
    wake_at: float
    owner: int | None = None
    parent: int | None = None
    parent_op: str | None = None
    on_parent_close: ParentPolicy = ParentPolicy.CANCEL
    mail: Sequence[NewMail] = ()
    attach: bool = True
    generation: int = 1
    follows: int | None = None
    inherit: bool = False
    attributes: Sequence[Attribute] = ()
    pinned: bool = False
    key: str | None = None
    priority: int = 0
    dedup: str | None = None
    debounce: bool = False
    at_most: float | None = None
    slot: bool = False
    donor: str | None = None
    subject: str | None = None


class Successor(msgspec.Struct, frozen=True, gc=False):
    """The next generation of a run that ends with an append, made with it.

    It has the same fingerprint as the run it follows, so that a repeated start still means it, and the same
    parent on the same terms, whatever `run` says of these. The
    inbox of that run goes over to it, after the mail that `run` brings, but for what only the old generation
    could use (see `goes_over`); so do the keys of its mail, and the updates that it hasn't accepted.
    """

    run: NewRun


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """What the store knows of a run, its history aside.

    Attributes:
        seq: number of events in its history; the next one gets seq + 1.
        chain: the checksum of its history, see chain.py; what is appended goes on from it.
        epoch: how often its ownership has changed; every write by a driver names it.
        owner: the worker that drives it, None when nobody does.
        wake_at: when it needs a driver next (only meaningful while owner is None), None = not by time.
        mail: how many inbox items wait for it; of an ended run: how many messages were never delivered.
        recoveries: how often in a row a driver died without recording anything.
        semantics: version of the history's meaning (core.events.SEMANTICS_VERSION).
        parent_id: the parent run's public id.
        generation: which run of this id it is, from 1.
        next: key of the generation that follows it, None for the newest one.
        version: the code version of the worker that drives it, or drove it last; "" of a worker that has
            none; None before anybody did. That of a pinned run stays what it was first.
        pinned: only workers of that version may drive it.
        key, priority: what its queue may go by.
    """

    run: int
    id: str
    workflow: str
    status: str
    queue: str
    fingerprint: bytes
    seq: int
    epoch: int
    owner: int | None
    created_at: float
    updated_at: float
    started_at: float | None
    ended_at: float | None
    wake_at: float | None
    mail: int
    recoveries: int
    semantics: int
    reason: str | None
    block_code: str | None
    parent: int | None
    parent_id: str | None
    parent_op: str | None
    on_parent_close: str
    generation: int
    next: int | None
    version: str | None
    pinned: bool
    chain: int
    key: str | None = None
    priority: int = 0


def same_work(new: NewRun, row: RunRow) -> bool:
    """Whether starting `new` may mean the run that has its id already."""
    return new.fingerprint == row.fingerprint


class Mail(msgspec.Struct, frozen=True, gc=False):
    """An inbox item: an encoded event that waits to be taken into a run's history."""

    id: int
    run: int
    data: bytes
    kind: str = MailKind.CONTROL


class Append(msgspec.Struct, frozen=True, gc=False):
    """One compare-and-set of a run by its driver: all of it happens, or nothing.

    Attributes:
        expected: the seq the driver believes the run is at.
        epoch: the driver's epoch.
        attempt: random 63-bit number of this append; a repeat of it after an unknown outcome is
            recognised by it and succeeds without effect.
        events: encoded events, they get seq expected + 1, ...; may be empty (a change of state only).
        now: wall-clock time of the append.
        links: of each event, going on from the run's chain; see chain.py.
        status: the run's new status, None to leave it. A final one also clears owner and wake_at, sets
            ended_at, applies each live child's on_parent_close, and drops the run's inbox, messages aside.
        reason, block_code: stored whenever status is given.
        release: give up ownership; wake_at then says when the run needs a driver again. If mail is
            waiting when the append commits (beyond `consumed`), wake_at becomes `now` instead; but mail
            doesn't wake a run that is released as blocked or paused.
        consumed: inbox items taken into this append's events; they are deleted with it.
        children: child runs to create with it (their parent is this run; one whose id exists already
            is left as it is).
        parent_mail: encoded ChildEnded event for this run's parent; put into the parent's inbox if the
            parent is live, waking it.
        effects: what else is done with it, in order.
        successor: the run's next generation, if it ends and goes on.
    """

    run: int
    expected: int
    epoch: int
    attempt: int
    events: Sequence[bytes]
    now: float
    links: Sequence[int]
    status: str | None = None
    reason: str | None = None
    block_code: str | None = None
    release: bool = False
    wake_at: float | None = None
    consumed: Sequence[int] = ()
    children: Sequence[NewRun] = ()
    parent_mail: bytes | None = None
    effects: Sequence[Effect] = ()
    successor: Successor | None = None

    @property
    def chain(self) -> int | None:
        """The run's chain after it; None if it stays what it is."""
        return self.links[-1] if self.links else None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The append is durable.

    Attributes:
        seq: the run's seq after it.
        children: keys of the child runs, in the order of Append.children; each with its epoch (0 when
            the child is not owned by this append's caller, or existed before).
        successor: the same of the run's next generation, None if it has none.
    """

    seq: int
    children: Sequence[tuple[int, int]] = ()
    successor: tuple[int, int] | None = None


class Stale(msgspec.Struct, frozen=True, gc=False):
    """The append was refused: the run is at another seq, epoch or owner. Nothing was written.

    Attributes:
        damage: the run is where the driver says, but its history has no room for what follows.
    """

    seq: int
    epoch: int
    damage: Damage | None = None


class Created(msgspec.Struct, frozen=True, gc=False):
    """What became of a NewRun.

    Attributes:
        row: of the run it means, as it is now.
        new: this call made it.
        delivery: what became of its mail.
        dedup: the run that it means has its dedup; it may have another id and other input.
    """

    row: RunRow
    new: bool
    delivery: Delivery = Delivery.DELIVERED
    dedup: bool = False


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """Runs a worker just became owner of.

    Attributes:
        rows: the rows after the claim (new owner and epoch, started_at set).
        next_at: when this worker could claim more: the earliest wake_at of the unowned runs, or when a queue's
            rate lets the next one begin; None if that isn't known.
        waits: others wait for a slot of their queue, so the end of a run may let one of them begin.
        suspected: when the last suspected run became due that is so, at the beginning of the claim.
    """

    rows: Sequence[RunRow]
    next_at: float | None
    waits: bool = False
    suspected: float | None = None


class Detail(msgspec.Struct, frozen=True, gc=False):
    """What the newest heartbeat of a step told, encoded."""

    step: str
    data: bytes
    at: float


class History(msgspec.Struct, frozen=True, gc=False):
    """A run's encoded events in order, the inbox items waiting for it, oldest first, and its steps' details.

    With `damage` the events aren't those that were recorded, and nothing may be done by them.
    """

    run: int
    events: Sequence[bytes]
    mail: Sequence[Mail]
    details: Sequence[Detail] = ()
    damage: Damage | None = None


class RunFilter(msgspec.Struct, frozen=True, gc=False):
    """Which runs to list: newest first, at most `limit`, older than the run with key `before`.

    Attributes:
        statuses: any of these, empty = all.
        workflow: exact name, or the part of it after the last dot.
        parent: key of the parent run.
        text: part of the id, or of the reason.
        since, until: created at or after, and before.
        floor: only runs with a greater key.
        among: only runs with these keys.
        attributes: what must hold, all of it.
        unpatched: live, and didn't take the new branch of this change of code.
        errands: also the runs that carry out steps of others.
        within: only those of the namespace whose ids begin with this; `text` is part of what follows it.
    """

    statuses: Sequence[str] = ()
    workflow: str | None = None
    parent: int | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    before: int | None = None
    floor: int | None = None
    among: Sequence[int] | None = None
    limit: int = 100
    attributes: Sequence[Condition] = ()
    unpatched: str | None = None
    errands: bool = True
    within: str | None = None
