"""What happens to all else that a run's code waits for: timers, children, callbacks."""

from __future__ import annotations

import msgspec

from perdure.core.events_base import Fact, Failure, Record


class TimerStarted(Fact, frozen=True, tag="timer_started"):
    """A note: the run waits until `due`, wall-clock seconds."""

    timer: str
    due: float


class TimerFired(Fact, frozen=True, tag="timer_fired"):
    timer: str
    reused: bool = False  #: copied from the run that this one retries or forks


class OperationDropped(Fact, frozen=True, tag="operation_dropped"):
    """A note: the code stopped waiting for a step or timer of which a note says that it was started."""

    operation: str


class ChildStarted(Fact, frozen=True, tag="child_started"):
    """The child run exists: it was created in the same transaction as this event."""

    child: str
    run: str
    workflow: str
    on_parent_close: str = "cancel"
    input: bytes | None = None
    fingerprint: bytes | None = None
    reused: bool = False  #: copied from the run that this one retries or forks


class ChildEnded(Fact, frozen=True, tag="child_ended"):
    """A child run reached a final `status`, with its result or its failure."""

    child: str
    status: str
    result: bytes | None = None
    failure: Failure | None = None
    reused: bool = False  #: copied from the run that this one retries or forks


class CallbackOpened(Record, frozen=True, tag="callback_opened"):
    """The code made a callback. Times in seconds from `at`."""

    timeout: float | None = None
    heartbeat: float | None = None


class CallbackEnded(Fact, frozen=True, tag="callback_ended"):
    """Somebody outside completed a callback, with a result or a failure; or its time was over."""

    callback: str
    result: bytes | None = None
    failure: Failure | None = None
    timed_out: bool = False
    reused: bool = False  #: copied from the run that this one retries or forks


class Question(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a person is asked.

    Attributes:
        id: names it in its database.
        text: the question itself.
        form: JSON Schema of an answer, as JSON.
        details: what is shown to help with the answer, as JSON.
        default: the answer that the form begins with, as JSON.
        to: whom it is for.
        digest: of the arguments to which the answer is bound.
        step: id of the step that is to be approved, if it is about one.
        problem: why the answer before this one didn't count.
    """

    id: str
    text: str
    form: bytes
    details: bytes | None = None
    default: bytes | None = None
    to: str | None = None
    digest: str | None = None
    step: str | None = None
    problem: str | None = None


class QuestionAsked(CallbackOpened, frozen=True, tag="question_asked", kw_only=True):
    """The code asks a person: a callback whose end is an answer."""

    question: Question


class QuestionAnswered(CallbackEnded, frozen=True, tag="question_answered", kw_only=True):
    """Somebody answered. With a `failure`, the answer couldn't be read as what the code expects."""

    answered_at: float  #: when, wall-clock seconds; the run may have heard of it much later
    by: str | None = None  #: who
    via: str = ""  #: through what: "cli", "python", "http", ...
    given: bytes | None = None  #: the answer that couldn't be read
    presumed: bool = False  #: nobody was asked, since what it is about was withheld in a counterfactual run


class QuestionWithdrawn(Record, frozen=True, tag="question_withdrawn"):
    """The code doesn't wait for the answer any more."""
