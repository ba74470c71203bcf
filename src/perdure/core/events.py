"""What has happened: the closed union of immutable facts that make up a run's history.

An event is written once and read for ever, so fields are only ever added, with a default. Payloads
are opaque bytes here; the codec layer gives them meaning. Two kinds of events exist:

- *fed* events (`FED`) are handed to the workflow's code on replay, one at a time, in recorded order;
- *notes* tell people and operators something; replay only checks that they fit the code.

Operations (steps, timers, children) are named by an op id: `name#position` under the task that asked
for it, see `core/scope.py`. A third kind are *records*: what the code did that has no outcome (it sent, emitted,
answered). On replay the code does it again, and the record must be equal but for its time.

The kinds are defined by story in the files `events_*.py`; everybody imports them from here.
"""

from __future__ import annotations

from typing import TypeAlias

from perdure.core.donor import Counterfactual, Donor
from perdure.core.events_base import Failure, Record
from perdure.core.events_endings import (
    CancelRequested,
    DeadlinePassed,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunTerminated,
)
from perdure.core.events_messages import (
    Emitted,
    MessageAwaited,
    MessageReceived,
    MessageRefused,
    MessageSent,
    MessageSetAside,
    UpdateAccepted,
    UpdateCompleted,
)
from perdure.core.events_publications import (
    Heard,
    PublicationArrived,
    PublicationAwaited,
    PublicationGivenUp,
    Published,
)
from perdure.core.events_runs import (
    AttributesSet,
    Checkpointed,
    Patched,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStarted,
)
from perdure.core.events_sealed import Sealed
from perdure.core.events_steps import (
    Decision,
    ErrandEnded,
    Overdrawn,
    StepAttemptFailed,
    StepCompleted,
    StepDelayed,
    StepFailed,
    StepParked,
    StepRerun,
    StepSent,
    StepStarted,
)
from perdure.core.events_waits import (
    CallbackEnded,
    CallbackOpened,
    ChildEnded,
    ChildStarted,
    OperationDropped,
    Question,
    QuestionAnswered,
    QuestionAsked,
    QuestionWithdrawn,
    TimerFired,
    TimerStarted,
)

__all__ = [
    "FINAL",
    "SEMANTICS_VERSION",
    "AttributesSet",
    "CallbackEnded",
    "CallbackOpened",
    "CancelRequested",
    "Checkpointed",
    "ChildEnded",
    "ChildStarted",
    "Counterfactual",
    "DeadlinePassed",
    "Decision",
    "Donor",
    "Emitted",
    "ErrandEnded",
    "Event",
    "Failure",
    "Final",
    "Heard",
    "MessageAwaited",
    "MessageReceived",
    "MessageRefused",
    "MessageSent",
    "MessageSetAside",
    "OperationDropped",
    "Overdrawn",
    "Patched",
    "PublicationArrived",
    "PublicationAwaited",
    "PublicationGivenUp",
    "Published",
    "Question",
    "QuestionAnswered",
    "QuestionAsked",
    "QuestionWithdrawn",
    "Record",
    "RunCancelled",
    "RunCompleted",
    "RunContinued",
    "RunFailed",
    "RunPaused",
    "RunRecovered",
    "RunResumed",
    "RunStarted",
    "RunTerminated",
    "Sealed",
    "Shown",
    "StepAttemptFailed",
    "StepCompleted",
    "StepDelayed",
    "StepFailed",
    "StepParked",
    "StepRerun",
    "StepSent",
    "StepStarted",
    "TimerFired",
    "TimerStarted",
    "UpdateAccepted",
    "UpdateCompleted",
]

#: Version of the meaning of histories. Stored with each run; an engine refuses runs from its future.
SEMANTICS_VERSION = 1

Event: TypeAlias = (
    RunStarted
    | RunRecovered
    | StepStarted
    | StepAttemptFailed
    | StepDelayed
    | StepParked
    | StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | OperationDropped
    | ChildStarted
    | ChildEnded
    | StepRerun
    | StepSent
    | ErrandEnded
    | MessageReceived
    | MessageSetAside
    | MessageAwaited
    | MessageSent
    | MessageRefused
    | UpdateAccepted
    | UpdateCompleted
    | CallbackOpened
    | CallbackEnded
    | QuestionAsked
    | QuestionAnswered
    | QuestionWithdrawn
    | PublicationAwaited
    | PublicationArrived
    | PublicationGivenUp
    | Published
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

#: What a history shows: its events, and what is left of those that can't be opened here.
Shown: TypeAlias = Event | Sealed

Final: TypeAlias = RunCompleted | RunFailed | RunCancelled | RunTerminated | RunContinued
FINAL = (RunCompleted, RunFailed, RunCancelled, RunTerminated, RunContinued)
