"""What an append does besides: messages to others, updates that have come further, what heartbeats told.

Features bring effects of their own, beside what else they keep in a store.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Something an append does besides: the common base. Each kind says what the store does for it."""


class DeliverMessage(Effect, frozen=True, gc=False):
    """Put a message into another run's inbox. If that run has ended, it is kept there as undelivered.

    Attributes:
        to: the receiver's public id. Nothing happens if there is no such run.
        data: the encoded event.
    """

    to: str
    data: bytes


class UpdateState(StrEnum):
    """How far an update has come."""

    REQUESTED = "requested"  #: it waits in the run's inbox
    ACCEPTED = "accepted"  #: its handler has begun
    REJECTED = "rejected"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def answered(self) -> bool:
        return self not in (UpdateState.REQUESTED, UpdateState.ACCEPTED)


class KeepCheckpoint(Effect, frozen=True, gc=False):
    """A replay of the run may begin with this append's events, after the run's first one."""


class SetUpdate(Effect, frozen=True, gc=False):
    """An update of this run has come further; `answer` is what its caller gets."""

    update: str
    state: UpdateState
    answer: bytes | None = None


class StepDetail(Effect, frozen=True, gc=False):
    """Keep what a step's heartbeat told, instead of what an earlier one did; None forgets it.

    What is still kept when the run ends is forgotten with that.
    """

    step: str
    data: bytes | None
    at: float
