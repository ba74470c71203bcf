"""What a workflow's code asked for in an activation: the closed union of commands.

The machine collects them, the runtime carries them out. `call` is the runtime's own description of the
work (which function, which arguments); the core passes it through without looking inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from perdure.core.events import Failure, Question, Record, StepDelayed, StepParked, StepSent
from perdure.core.handles import TimerHandle


class Operation(msgspec.Struct, eq=False):
    """Something asked for whose outcome is an event: the common part.

    Attributes:
        id: names it within the run, the same on every replay (see core/scope.py).
        asked_at: the run's time when the code asked, wall-clock seconds.
    """

    id: str
    asked_at: float


class RunStep(Operation, eq=False):
    """Execute a step until it has an outcome.

    Attributes:
        input: the encoded arguments.
        decode: turns the recorded result into the value the code sees.
        future: what the code awaits.
        unfit: why it can't be executed at all; this becomes its outcome.
        failed_attempts: attempts that are recorded as failed already.
        retry_at: the next attempt's earliest time, wall-clock seconds (0 = at once).
        first_at: when the first attempt started, None before.
        noted: a StepStarted event for the current attempt is in the history.
        concluding: the code was cancelled and waits for the outcome: no attempt follows that isn't on its way.
        delay: for which limit its next attempt waits, or did wait until it began.
        refusals: how often in a row the other side has turned it away because of its rate.
        money: "waits" if it may wait for a budget by what the store knows; "allowed" if a person lets its next attempt
            go beyond that.
        recalled: asked for on replay, so an attempt may have begun before this process drove the run.
        parked: why it waits for a person's decision, None if it doesn't.
        decided: the `parked` about which somebody has said something that is on its way to the history.
        pulse: what its heartbeats have left, the runtime's own.
        elsewhere: its attempts are sent to a queue.
        sent: the attempt that was, while nothing is known of its end.
    """

    name: str
    call: Any
    input: bytes
    decode: Callable[[bytes], Any]
    future: asyncio.Future[Any]
    unfit: Exception | None = None
    failed_attempts: int = 0
    retry_at: float = 0.0
    first_at: float | None = None
    last_failure: Failure | None = None
    noted: bool = False
    concluding: bool = False
    recalled: bool = False
    parked: StepParked | None = None
    decided: StepParked | None = None
    pulse: Any = None
    elsewhere: bool = False
    sent: StepSent | None = None
    delay: StepDelayed | None = None
    refusals: int = 0
    money: str = ""


class StartTimer(Operation, eq=False):
    """Record a TimerFired event once the wall clock has reached `due`."""

    handle: TimerHandle
    due: float
    noted: bool = False


class StartChild(Operation, eq=False):
    """Create a child run and record ChildStarted with it; later its ChildEnded arrives as mail.

    Attributes:
        started, ended: what the code awaits; `started` is None if nobody waits for the start.
        recorded: ChildStarted is in the history.
        called_off: its cancellation is on its way.
    """

    run_id: str
    workflow: str
    call: Any
    input: bytes
    on_parent_close: str
    decode: Callable[[bytes], Any]
    started: asyncio.Future[Any] | None
    ended: asyncio.Future[Any]
    recorded: bool = False
    called_off: bool = False


class AwaitCallback(Operation, eq=False):
    """Record that a callback was opened, and watch the clock for it; its CallbackEnded arrives as mail.

    Attributes:
        token_hash: what the store knows it by.
        ended: what the code awaits.
        timeout, heartbeat: seconds, None = any. Those of the history count if the code's are others by now.
        opened_at: when CallbackOpened was written.
        written: CallbackOpened goes with an append, this one or a later one.
        recorded: CallbackOpened is in the history.
        question: what a person is asked, if it is a question.
        withdrawing: what the store does when the code gives it up.
        by: who has answered.
        presumed: the answer that is taken for given, since what it is about won't happen; None = a person is asked.
    """

    token_hash: bytes
    decode: Callable[[bytes], Any]
    ended: asyncio.Future[Any]
    timeout: float | None = None
    heartbeat: float | None = None
    opened_at: float = 0.0
    written: bool = False
    recorded: bool = False
    noted: bool = False
    question: Question | None = None
    withdrawing: Sequence[Any] = ()
    by: str | None = None
    presumed: bytes | None = None


class AwaitMessage(Operation, eq=False):
    """The code waits for a message. Nothing has to be done for it; the mailbox ends it.

    Attributes:
        future: what the code awaits: that there may be a message for it.
        timeout: how long it waits, in seconds.
        expired: that time is over.
        noted: a MessageAwaited event is in the history.
        decode: how it is read; `type` of it, if it has that, says as what.
    """

    name: str
    future: asyncio.Future[None]
    timeout: float | None = None
    decode: Callable[[bytes], Any] | None = None
    expired: bool = False
    noted: bool = False


class AwaitPublication(Operation, eq=False):
    """Record that the code waits for a publication; its PublicationArrived comes as mail.

    Attributes:
        subscription: name and condition, by which its run knows where it stands.
        future: what the code awaits; its result is the publication's number and its value.
        since: it was published at this moment or later, wall-clock seconds.
        after: it has a higher number.
        timeout: how long the code waits, in seconds.
        recorded: PublicationAwaited is in the history, and nothing has come since that couldn't be read.
    """

    name: str
    where: str
    subscription: str
    decode: Callable[[bytes], Any]
    future: asyncio.Future[Any]
    since: float = 0.0
    after: int = 0
    timeout: float | None = None
    recorded: bool = False
    noted: bool = False


class SendMessage(Operation, eq=False):
    """Put a message into another run's inbox, with MessageSent; or record MessageRefused.

    Attributes:
        to: the receiver's run id.
        future: what the code awaits.
    """

    to: str
    name: str
    payload: bytes
    future: asyncio.Future[None]
    noted: bool = False


class WriteDown:
    """The code did something that has no outcome: write it down, and let the store do what belongs to it.

    Attributes:
        record: the event; its time is set when it is written.
        effects: what the store does in the same transaction (see Append.effects); the core looks at none.
    """

    __slots__ = ("effects", "record")

    def __init__(self, record: Record, effects: Sequence[Any] = ()) -> None:
        self.record = record
        self.effects = effects


#: Everything that has an outcome.
OpenOperation: TypeAlias = (
    RunStep | StartTimer | StartChild | AwaitCallback | AwaitMessage | AwaitPublication | SendMessage
)


class CancelOperation:
    """The code doesn't wait for this operation any more: stop the step, forget the timer, cancel the child."""

    __slots__ = ("operation",)

    def __init__(self, operation: OpenOperation) -> None:
        self.operation = operation


class ConcludeStep:
    """The code was cancelled and waits for this step all the same: what executes is its last attempt."""

    __slots__ = ("operation",)

    def __init__(self, operation: RunStep) -> None:
        self.operation = operation


class Ending(Enum):
    """How the workflow function ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"
    CONTINUED = "continued"


class Finish:
    """The workflow's code is done: record the run's outcome."""

    __slots__ = ("ending", "error", "value")

    def __init__(self, ending: Ending, value: Any = None, error: BaseException | None = None) -> None:
        self.ending = ending
        self.value = value
        self.error = error


Command: TypeAlias = OpenOperation | WriteDown | CancelOperation | ConcludeStep | Finish
