"""What has happened: the closed union of immutable facts that make up a run's history.

An event is written once and read for ever, so fields are only ever added, with a default. Payloads
are opaque bytes here; the codec layer gives them meaning. Two kinds of events exist:

- *fed* events (`FED`) are handed to the workflow's code on replay, one at a time, in recorded order;
- *notes* tell people and operators something; replay only checks that they fit the code.

Operations (steps, timers, children) are named by an op id: `name#position` under the task that asked
for it, see `core/scope.py`. A third kind are *records*: what the code did that has no outcome (it sent, emitted,
answered). On replay the code does it again, and the record must be equal but for its time.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from perdure.core.donor import Donor as Donor

#: Version of the meaning of histories. Stored with each run; an engine refuses runs from its future.
SEMANTICS_VERSION = 1


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception as data. Nothing in it is ever imported or executed.

    Attributes:
        type: qualified class name, `module.QualName`.
        message: `str(exc)` when it was raised.
        args: JSON bytes of the exception's constructor arguments, None if they aren't plain data.
        state: JSON bytes of its plain instance attributes, None if there are none.
        traceback: text of the traceback at the place where it was raised.
        notes: `exc.__notes__`.
        cause: the exception it was raised from.
        members: the exceptions of an exception group.
    """

    type: str
    message: str
    args: bytes | None = None
    state: bytes | None = None
    traceback: str = ""
    notes: tuple[str, ...] = ()
    cause: Failure | None = None
    members: tuple[Failure, ...] = ()


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="kind"):
    at: float  #: wall-clock seconds since the epoch when it happened, never decreasing within a run


class RunStarted(_Event, frozen=True, tag="run_started"):
    """Always the first event. `seed` feeds the run's random numbers, and is the key to its callbacks' tokens."""

    workflow: str
    input: bytes
    seed: bytes
    parent: str | None = None  #: the parent's run id
    parent_op: str | None = None  #: the op id under which the parent started it
    deadline: float | None = None  #: wall-clock time at which the run is cancelled as timed out
    schedule: str | None = None  #: the schedule that started it
    slot: float | None = None  #: the moment for which the schedule started it
    attributes: bytes | None = None  #: a JSON object, as in AttributesSet
    generation: int = 1  #: which run of its id it is
    keys: int = 1  #: the generation by which its steps' idempotency keys are made
    donor: Donor | None = None  #: the run that this one retries or forks


class RunRecovered(_Event, frozen=True, tag="run_recovered"):
    """A note: another worker, or the same one after a pause, took the run up again."""

    worker: str
    epoch: int
    version: str = ""  #: of the worker's code, if it has one


class StepStarted(_Event, frozen=True, tag="step_started"):
    """A note, written only for steps that take long enough to be worth seeing."""

    step: str
    attempt: int


class StepAttemptFailed(_Event, frozen=True, tag="step_attempt_failed"):
    """An attempt failed and another will follow, not before `retry_at` (wall-clock seconds)."""

    step: str
    attempt: int
    failure: Failure
    retry_at: float
    started_at: float


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The mark of an event that a person's decision brought about: who decided, and why, if they said so."""

    by: str | None = None
    why: str | None = None


class StepParked(_Event, frozen=True, tag="step_parked"):
    """A note: a step waits for a person's decision.

    `unknown` says that it may or may not have happened; else its attempts are used up, and `failure` is the last.
    """

    step: str
    attempt: int
    started_at: float
    why: str
    unknown: bool = False
    failure: Failure | None = None
    input: bytes | None = None
    fingerprint: bytes | None = None


class StepCompleted(_Event, frozen=True, tag="step_completed"):
    """A step's result. Small inputs are kept as `input`, larger ones only as their `fingerprint`."""

    step: str
    attempt: int
    started_at: float
    result: bytes
    input: bytes | None = None
    fingerprint: bytes | None = None
    decision: Decision | None = None  #: a person gave the result of a step that waited for one
    reused: bool = False  #: copied from the run that this one retries or forks


class StepFailed(_Event, frozen=True, tag="step_failed"):
    """A step failed for good after `attempt` attempts."""

    step: str
    attempt: int
    started_at: float
    failure: Failure
    input: bytes | None = None
    fingerprint: bytes | None = None
    decision: Decision | None = None  #: a person let a step fail that waited for one


class TimerStarted(_Event, frozen=True, tag="timer_started"):
    """A note: the run waits until `due`, wall-clock seconds."""

    timer: str
    due: float


class TimerFired(_Event, frozen=True, tag="timer_fired"):
    timer: str
    reused: bool = False  #: copied from the run that this one retries or forks


class OperationDropped(_Event, frozen=True, tag="operation_dropped"):
    """A note: the code stopped waiting for a step or timer of which a note says that it was started."""

    operation: str


class ChildStarted(_Event, frozen=True, tag="child_started"):
    """The child run exists: it was created in the same transaction as this event."""

    child: str
    run: str
    workflow: str
    on_parent_close: str = "cancel"
    input: bytes | None = None
    fingerprint: bytes | None = None
    reused: bool = False  #: copied from the run that this one retries or forks


class ChildEnded(_Event, frozen=True, tag="child_ended"):
    """A child run reached a final `status`, with its result or its failure."""

    child: str
    status: str
    result: bytes | None = None
    failure: Failure | None = None
    reused: bool = False  #: copied from the run that this one retries or forks


class StepRerun(_Event, frozen=True, tag="step_rerun"):
    """A person decided that a step which waits for one is to be attempted again, from its first attempt on."""

    step: str
    decision: Decision | None = None


class MessageReceived(_Event, frozen=True, tag="message_received"):
    """A message from outside, or from another run. The number of this event is the message's own."""

    name: str
    payload: bytes
    key: str | None = None  #: what makes a repeated send recognisable
    sender: str | None = None  #: the run that sent it
    reused: bool = False  #: copied from the run that this one retries or forks


class MessageAwaited(_Event, frozen=True, tag="message_awaited"):
    """A note: the code waits for a message of this name."""

    receive: str
    name: str


class MessageSent(_Event, frozen=True, tag="message_sent"):
    """The code sent a message to another run; it was delivered in the transaction that wrote this."""

    message: str
    run: str
    name: str
    payload: bytes | None = None
    fingerprint: bytes | None = None
    reused: bool = False  #: copied from the run that this one retries or forks


class MessageRefused(_Event, frozen=True, tag="message_refused"):
    """A message of the code's couldn't be delivered: `why` is "unknown_run" or "run_ended"."""

    message: str
    run: str
    name: str
    why: str


class UpdateAccepted(_Event, frozen=True, tag="update_accepted"):
    """A call of an update handler that its validator let pass: the handler begins."""

    update: str
    name: str
    input: bytes
    reused: bool = False  #: copied from the run that this one retries or forks


class CallbackEnded(_Event, frozen=True, tag="callback_ended"):
    """Somebody outside completed a callback, with a result or a failure; or its time was over."""

    callback: str
    result: bytes | None = None
    failure: Failure | None = None
    timed_out: bool = False
    reused: bool = False  #: copied from the run that this one retries or forks


class RunPaused(_Event, frozen=True, tag="run_paused"):
    """The run begins nothing new until it is resumed."""

    reason: str | None = None


class RunResumed(_Event, frozen=True, tag="run_resumed"):
    """The run goes on after a pause."""


class Record(_Event, frozen=True):
    """The common part of records. `op` names one within its run."""

    op: str


class MessageSetAside(Record, frozen=True, tag="message_set_aside"):
    """A message couldn't be read as what the code expects; the code never saw it. `op` is `message:NUMBER`."""

    why: str


class UpdateCompleted(Record, frozen=True, tag="update_completed"):
    """An update's handler ended. `op` is the update's id."""

    result: bytes | None = None
    failure: Failure | None = None


class CallbackOpened(Record, frozen=True, tag="callback_opened"):
    """The code made a callback. Times in seconds from `at`."""

    timeout: float | None = None
    heartbeat: float | None = None


class Emitted(Record, frozen=True, tag="emitted"):
    """The code put an item into one of the run's streams."""

    stream: str
    item: bytes


class AttributesSet(Record, frozen=True, tag="attributes_set"):
    """The run's searchable attributes changed. `values` is a JSON object; null removes one.

    An empty `op` says that they were set from outside; the code knows nothing of it.
    """

    values: bytes


class Patched(Record, frozen=True, tag="patched"):
    """The code took the new branch of `patched(...)`. `op` is `patch:` and the change's id."""


class Checkpointed(Record, frozen=True, tag="checkpointed"):
    """All that happened before is summed up in `state`: a replay may begin here."""

    state: bytes
    seed: bytes = b""  #: feeds random numbers from here on


class CancelRequested(_Event, frozen=True, tag="cancel_requested"):
    """The run is asked to end. With `terminate` it ends as terminated, whatever its code makes of it."""

    reason: str | None = None
    terminate: bool = False


class DeadlinePassed(_Event, frozen=True, tag="deadline_passed"):
    """The run was still going at its deadline; the code is cancelled."""


class RunCompleted(_Event, frozen=True, tag="run_completed"):
    """The workflow function returned. `unread` are the numbers of messages that it never received."""

    result: bytes
    unread: tuple[int, ...] = ()


class RunFailed(_Event, frozen=True, tag="run_failed"):
    failure: Failure
    timed_out: bool = False
    unread: tuple[int, ...] = ()


class RunCancelled(_Event, frozen=True, tag="run_cancelled"):
    reason: str | None = None
    unread: tuple[int, ...] = ()


class RunTerminated(_Event, frozen=True, tag="run_terminated"):
    """The run was ended from outside; `failure` is what its code raised while it was compensating, if anything."""

    reason: str | None = None
    failure: Failure | None = None
    unread: tuple[int, ...] = ()


class RunContinued(_Event, frozen=True, tag="run_continued"):
    """The run goes on in its next generation, with this call and an empty history."""

    workflow: str
    input: bytes


Event: TypeAlias = (
    RunStarted
    | RunRecovered
    | StepStarted
    | StepAttemptFailed
    | StepParked
    | StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | OperationDropped
    | ChildStarted
    | ChildEnded
    | StepRerun
    | MessageReceived
    | MessageSetAside
    | MessageAwaited
    | MessageSent
    | MessageRefused
    | UpdateAccepted
    | UpdateCompleted
    | CallbackOpened
    | CallbackEnded
    | Emitted
    | AttributesSet
    | Patched
    | Checkpointed
    | RunPaused
    | RunResumed
    | CancelRequested
    | DeadlinePassed
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTerminated
    | RunContinued
)

Final: TypeAlias = RunCompleted | RunFailed | RunCancelled | RunTerminated | RunContinued
FINAL = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinued)
