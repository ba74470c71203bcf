"""Callbacks as stores keep them: promises to a run that whoever has the token may keep, once.

A store knows a callback by the hash of its token, never by the token. Its row decides: completion, failure and
time-out are changes of one row, each in one transaction with the mail that tells the run, so the first to be
committed is what happened, and all others are refused. From its deadline on a callback can't be completed, even
if nobody has noted yet that its time is over; whoever comes too late notes it.

A *question* is a callback that shows itself: with it is kept what a person is asked, and then the answer. It is known
by the hash of its id, which isn't secret; nobody can take it for a token, as those are hashed in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from perdure.codec.events import encode_event
from perdure.codec.sealing.envelope import head_of, is_sealed, why_closed
from perdure.core.events import CallbackEnded, Failure, Question, QuestionAnswered
from perdure.storage.effects import Effect
from perdure.storage.reasons import callback_silent, callback_timed_out, question_timed_out


class CallbackState(StrEnum):
    """Where a callback stands."""

    OPEN = "open"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"  #: its run doesn't wait for it any more


class OpenCallback(Effect, frozen=True, gc=False):
    """Make a callback of the appending run known. One with this hash that another run has is left as it is.

    A later generation of its run that asks for it again, because what came of it failed or was of no use, takes it
    over: open and as it was, or else opened anew. An answer to the same question is delivered to it instead.

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
    question: bytes | None = None  #: as `pack_question` gives it


class WithdrawCallback(Effect, frozen=True, gc=False):
    """The appending run doesn't wait for this callback any more: it can't be completed from now on."""

    token_hash: bytes


class CallbackRow(msgspec.Struct, gc=False):
    """A callback and the run it belongs to.

    Attributes:
        heard_at: when it was opened, or last heard of.
        ended_at: when it ceased to be open.
        question: what a person is asked, packed.
        answer: the encoded event that tells of the answer.
        run_id, run_status, generation, workflow: the run's.
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
    question: bytes | None = None
    answer: bytes | None = None
    run_id: str = ""
    run_status: str = ""
    run_ended: bool = False
    generation: int = 1
    workflow: str = ""

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
    WITHDRAWN = "withdrawn"  #: its run doesn't wait for it any more
    RUN_ENDED = "run_ended"  #: its run waits for nothing any more at all


class CallbackAnswer(msgspec.Struct, frozen=True, gc=False):
    """The verdict, and the callback as it is now (None if it is unknown)."""

    verdict: CallbackVerdict
    row: CallbackRow | None = None


class Answerer(msgspec.Struct, frozen=True, gc=False):
    """Who answers a question, and through what."""

    by: str | None
    via: str


class QuestionFilter(msgspec.Struct, frozen=True, gc=False):
    """Which questions to list, oldest first.

    Attributes:
        open: only those that can be answered at the moment `now`; else all that were ever asked.
        run_id: only those of this run.
        since: only those asked at this moment or later, wall-clock seconds.
        after: only those behind this one: its `opened_at` and hash.
        within: only those of the namespace whose ids begin with this.
    """

    now: float
    open: bool = True
    run_id: str | None = None
    since: float = 0.0
    after: tuple[float, bytes] = (0.0, b"")
    limit: int = 100
    within: str | None = None


class CallbackStore(Protocol):
    """What a store does for callbacks besides opening them (see OpenCallback). Each verb is one transaction."""

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        """Complete a callback with an encoded result, or fail it, and put CallbackEnded into its run's inbox.

        One whose deadline has come is ended as timed out instead, and the answer is EXPIRED.

        Args:
            answerer: who answers, if it is a question; the run gets QuestionAnswered, which is kept.
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

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        """A callback as it stands."""
        ...

    async def questions(self, filter: QuestionFilter) -> Sequence[tuple[bytes, CallbackRow]]:
        """The questions that a filter matches, each with its hash, by the moment at which they were asked."""
        ...


def standing(row: CallbackRow | None) -> CallbackVerdict:
    """What anyone is told who wants something of this callback; DONE if it is open."""
    if row is None:
        return CallbackVerdict.UNKNOWN
    if row.state == CallbackState.OPEN:
        return CallbackVerdict.RUN_ENDED if row.run_ended else CallbackVerdict.DONE
    match row.state:
        case CallbackState.EXPIRED:
            return CallbackVerdict.EXPIRED
        case CallbackState.WITHDRAWN:
            return CallbackVerdict.WITHDRAWN
        case _:
            return CallbackVerdict.ENDED


def is_over(row: CallbackRow, now: float) -> bool:
    """Whether an open callback's deadline has come."""
    return row.deadline is not None and row.deadline <= now


class Takeover(StrEnum):
    """What becomes of a callback that a later generation of its run asks for again."""

    KEEP = "keep"  #: it is still open
    DELIVER = "deliver"  #: it has its answer
    REOPEN = "reopen"


def takeover(row: CallbackRow, question: bytes | None) -> Takeover:
    """How a later generation gets a callback. `question` is what it asks."""
    if _essence(row.question) == _essence(question):
        if row.state == CallbackState.OPEN:
            return Takeover.KEEP
        if row.answer is not None:
            return Takeover.DELIVER
    return Takeover.REOPEN


def _essence(packed: bytes | None) -> tuple[object, ...] | None:
    if packed is None:
        return None
    if is_sealed(packed):
        return (head_of(packed).mark,)
    question = unpack_question(packed)
    return question.text, question.details, question.digest


def pack_question(question: Question) -> bytes:
    """A question as it is kept."""
    return msgspec.json.encode(question)


def unpack_question(packed: bytes) -> Question:
    """What was kept; of what is sealed, and can't be opened here, that it is."""
    if is_sealed(packed):
        return Question("", f"({why_closed(packed)})", b"{}")
    return msgspec.json.decode(packed, type=Question)


def ended(
    row: CallbackRow, result: bytes | None, failure: Failure | None, answerer: Answerer | None, now: float
) -> bytes:
    """The encoded event by which a run hears of its callback's end.

    Args:
        result: that event itself, if it is sealed already.
    """
    if is_sealed(result):
        assert result is not None
        return result
    if answerer is None:
        return encode_event(CallbackEnded(at=now, callback=row.op, result=result, failure=failure))
    answered = QuestionAnswered(
        at=now, callback=row.op, result=result, answered_at=now, by=answerer.by, via=answerer.via
    )
    return encode_event(answered)


def timed_out(row: CallbackRow, now: float) -> bytes:
    """The same for one whose time is over."""
    if row.expires_at is not None and row.expires_at <= now:
        limit = round(row.expires_at - row.opened_at, 3)  # what floats of today leave of it
        told = (
            callback_timed_out(row.op, limit) if row.question is None else question_timed_out(row.op, limit)
        )
    else:
        assert row.heartbeat is not None
        told = callback_silent(row.op, row.heartbeat)
    failure = Failure(type="builtins.TimeoutError", message=told)
    return encode_event(CallbackEnded(at=now, callback=row.op, failure=failure, timed_out=True))
