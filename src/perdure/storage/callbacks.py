"""Callbacks as stores keep them: promises to a run that whoever has the token may keep, once.

A store knows a callback by the hash of its token, never by the token. Its row decides: completion, failure and
time-out are changes of one row, each in one transaction with the mail that tells the run, so the first to be
committed is what happened, and all others are refused. From its deadline on a callback can't be completed, even
if nobody has noted yet that its time is over; whoever comes too late notes it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from perdure.codec.events import encode_event
from perdure.core.events import CallbackEnded, Failure
from perdure.storage.effects import Effect
from perdure.storage.reasons import callback_silent, callback_timed_out


class CallbackState(StrEnum):
    """Where a callback stands."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"


class OpenCallback(Effect, frozen=True, gc=False):
    """Make a callback of the appending run known. One with this hash that is there already is left as it is.

    Attributes:
        token_hash: what it is known by.
        op: its op id within the run.
        opened_at: wall-clock seconds.
        expires_at: from then on it can't be completed, None = never.
        heartbeat: most seconds between two signs of life, None = none are needed.
    """

    token_hash: bytes
    op: str
    opened_at: float
    expires_at: float | None = None
    heartbeat: float | None = None


class CallbackRow(msgspec.Struct, gc=False):
    """A callback and the run it belongs to.

    Attributes:
        heard_at: when it was opened, or last heard of.
        ended_at: when it ceased to be open.
        run_id, run_status: the run's public id and status.
        run_ended: the run waits for nothing any more.
    """

    run: int
    op: str
    opened_at: float
    expires_at: float | None
    heartbeat: float | None
    heard_at: float
    state: str
    ended_at: float | None
    run_id: str = ""
    run_status: str = ""
    run_ended: bool = False

    @property
    def deadline(self) -> float | None:
        """When its time is over unless something is heard of it."""
        silent = None if self.heartbeat is None else self.heard_at + self.heartbeat
        return min((moment for moment in (self.expires_at, silent) if moment is not None), default=None)


class CallbackVerdict(StrEnum):
    """What became of a request to a callback."""

    DONE = "done"
    UNKNOWN = "unknown"  #: no callback has this token
    ENDED = "ended"  #: it was completed or failed before
    EXPIRED = "expired"  #: its time is over
    RUN_ENDED = "run_ended"  #: its run waits for nothing any more


class CallbackAnswer(msgspec.Struct, frozen=True, gc=False):
    """The verdict, and the callback as it is now (None if it is unknown)."""

    verdict: CallbackVerdict
    row: CallbackRow | None = None


class CallbackStore(Protocol):
    """What a store does for callbacks besides opening them (see OpenCallback). Each verb is one transaction."""

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        now: float,
    ) -> CallbackAnswer:
        """Complete a callback with an encoded result, or fail it, and put CallbackEnded into its run's inbox.

        One whose deadline has come is ended as timed out instead, and the answer is EXPIRED.
        """
        ...

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        """Note a sign of life: the time until the next one begins again. Too late as for `end`."""
        ...

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        """End a callback as timed out if its deadline has come, and tell its run by CallbackEnded.

        Returns:
            The deadline, if it is open and has one that lies ahead; else None.
        """
        ...


def standing(row: CallbackRow | None) -> CallbackVerdict:
    """What anyone is told who wants something of this callback; DONE if it is open."""
    if row is None:
        return CallbackVerdict.UNKNOWN
    if row.state == CallbackState.OPEN:
        return CallbackVerdict.RUN_ENDED if row.run_ended else CallbackVerdict.DONE
    return CallbackVerdict.EXPIRED if row.state == CallbackState.EXPIRED else CallbackVerdict.ENDED


def is_over(row: CallbackRow, now: float) -> bool:
    """Whether an open callback's deadline has come."""
    return row.deadline is not None and row.deadline <= now


def ended(row: CallbackRow, result: bytes | None, failure: Failure | None, now: float) -> bytes:
    """The encoded event by which a run hears of its callback's end."""
    return encode_event(CallbackEnded(at=now, callback=row.op, result=result, failure=failure))


def timed_out(row: CallbackRow, now: float) -> bytes:
    """The same for one whose time is over."""
    if row.expires_at is not None and row.expires_at <= now:
        told = callback_timed_out(row.op, row.expires_at - row.opened_at)
    else:
        assert row.heartbeat is not None
        told = callback_silent(row.op, row.heartbeat)
    failure = Failure(type="builtins.TimeoutError", message=told)
    return encode_event(CallbackEnded(at=now, callback=row.op, failure=failure, timed_out=True))
