"""Every error Perdure raises, in one tree.

    PerdureError
    ├── ConfigurationError            the program is set up wrongly
    │   └── DuplicateNameError        two definitions share one durable name
    ├── UsageError                    a durable call was made in the wrong place
    │   ├── ForbiddenInWorkflowError  I/O, threads or sockets inside workflow code
    │   ├── DurableCallInStepError    a workflow or step was awaited inside a step
    │   └── NamespaceError            it concerns the whole database, and a namespace was to do it
    ├── NotSerializableError          a value can't be carried by its declared type
    │   └── PayloadTooLargeError      a value is larger than the engine's limit
    ├── LimitExceededError            a run, or who sends to it, has come to a limit
    │   ├── HistoryFullError          its history takes nothing more (blocks the run)
    │   ├── TooManyPendingError       its code has too much open at once
    │   ├── InboxFullError            too many messages wait for it
    │   └── QuotaExceededError        a namespace may start nothing more
    ├── UnknownRunError               no run has this id
    ├── RunConflictError              this id belongs to other work
    │   └── RunEndedError             the run has ended, and takes nothing any more
    ├── UnknownScheduleError          no schedule has this name
    ├── ScheduleConflictError         this name belongs to another schedule
    ├── UnknownHandlerError           a run has no query or update handler of this name
    ├── ReadOnlyError                 a query handler or validator tried to act
    ├── UpdateRejected                an update's validator turned it down
    │   └── ValidatorActedError       ... because it tried to act; a ReadOnlyError, too
    ├── HandlerFailed                 a handler's exception can't be rebuilt here
    ├── HandlerUnreachableError       nobody who has the workflow's code answered a query
    ├── TravelError                   a run's past can't be shown
    │   └── NoCodeError               ... because its workflow's code isn't here
    ├── NothingToDecideError          no such step of the run waits for a person
    ├── RunError                      a run ended without a result
    │   ├── RunFailed                 an exception left the workflow function
    │   │   └── RunTimedOut           the run was past its timeout
    │   ├── RunCancelled              the run was cancelled
    │   └── RunTerminated             the run was terminated from outside
    ├── StepFailed                    a step failed for good; its class can't be rebuilt here
    ├── HttpStatusError               a server answered a durable request with a status of 400 or more
    ├── BudgetExceeded                a budget has no money for a step's next call
    ├── StepProcessDied               the process that executed a step was killed, or crashed
    ├── CallbackFailed                somebody outside failed a callback that the code awaits
    ├── CallbackError                 a callback can't be completed
    │   ├── UnknownCallbackError      no callback has this token
    │   ├── CallbackCompletedError    it was completed or failed before
    │   └── CallbackExpiredError      its time is over, or its run has ended
    ├── ApprovalRejected              a person didn't approve a step
    ├── QuestionError                 a question can't be answered
    │   ├── UnknownQuestionError      no question has this id
    │   ├── QuestionAnsweredError     it was answered before, with something else
    │   ├── QuestionClosedError       nobody waits for the answer any more
    │   └── InvalidAnswerError        the answer isn't what was asked for
    ├── CompensationFailed            a saga couldn't undo all that was done
    ├── MapFailed                     more items of a map failed than its limits tolerate
    ├── NonDeterminismError           history and code disagree (blocks the run)
    ├── DamagedHistoryError           the stored history isn't what was recorded (blocks the run)
    ├── UndecodableError              a recorded value doesn't fit the code's type (blocks the run)
    │   └── SealedError               ... or is sealed, and can't be opened here
    ├── TurnLimitError                workflow code span without awaiting (blocks the run)
    ├── Retryable                     raised by steps: try again
    │   └── RateLimited               ... the other side takes no more for now
    ├── Permanent                     raised by steps: don't try again
    ├── OutcomeUnknown                raised by steps: it may have happened, or not
    ├── EffectRefused                 a step would act, and its run is counterfactual
    ├── SecretUnavailableError        a secret can't be found where the step executes
    ├── HistoryFileError              a file of a recorded history can't be read
    ├── MovingError                   runs can't be moved, exported or imported
    ├── EngineClosedError             the engine isn't open
    └── StoreError                    the database can't be used
        ├── StaleWorkerError          another worker drives this run now
        ├── NotADatabaseError         the file is something else
        ├── NewerSchemaError          the file was written by a newer Perdure
        ├── OlderWorkersError         workers are up whose code is too old for the newer schema
        └── StoreUnavailableError     full, read-only, locked or failing disk
            └── DatabaseMovedError    the file was moved away or replaced under this process

Split by what the caller can do about it. Each message says what happened, why, and what to do next. Signals the engine
uses to unwind code derive from BaseException and live with their users, so `except Exception` can't swallow them.
"""

from __future__ import annotations

from perdure.errors.base import (
    PerdureError,
)
from perdure.errors.limits import (
    HistoryFullError,
    InboxFullError,
    LimitExceededError,
    QuotaExceededError,
    TooManyPendingError,
)
from perdure.errors.runs import (
    DamagedHistoryError,
    NonDeterminismError,
    RunCancelled,
    RunConflictError,
    RunEndedError,
    RunError,
    RunFailed,
    RunTerminated,
    RunTimedOut,
    ScheduleConflictError,
    TurnLimitError,
    UnknownRunError,
    UnknownScheduleError,
)
from perdure.errors.steps import (
    ApprovalRejected,
    BudgetExceeded,
    CompensationFailed,
    EffectRefused,
    HttpStatusError,
    MapFailed,
    NothingToDecideError,
    OutcomeUnknown,
    Permanent,
    RateLimited,
    Retryable,
    StepFailed,
    StepProcessDied,
)
from perdure.errors.stores import (
    DatabaseMovedError,
    MovingError,
    NewerSchemaError,
    NotADatabaseError,
    OlderWorkersError,
    StaleWorkerError,
    StoreError,
    StoreUnavailableError,
)
from perdure.errors.talking import (
    CallbackCompletedError,
    CallbackError,
    CallbackExpiredError,
    CallbackFailed,
    HandlerFailed,
    HandlerUnreachableError,
    InvalidAnswerError,
    NoCodeError,
    QuestionAnsweredError,
    QuestionClosedError,
    QuestionError,
    ReadOnlyError,
    TravelError,
    UnknownCallbackError,
    UnknownHandlerError,
    UnknownQuestionError,
    UpdateRejected,
    ValidatorActedError,
)
from perdure.errors.usage import (
    ConfigurationError,
    DuplicateNameError,
    DurableCallInStepError,
    EngineClosedError,
    ForbiddenInWorkflowError,
    NamespaceError,
    UsageError,
)
from perdure.errors.values import (
    HistoryFileError,
    NotSerializableError,
    PayloadTooLargeError,
    SealedError,
    SecretUnavailableError,
    UndecodableError,
)

__all__ = [
    "ApprovalRejected",
    "BudgetExceeded",
    "CallbackCompletedError",
    "CallbackError",
    "CallbackExpiredError",
    "CallbackFailed",
    "CompensationFailed",
    "ConfigurationError",
    "DamagedHistoryError",
    "DatabaseMovedError",
    "DuplicateNameError",
    "DurableCallInStepError",
    "EffectRefused",
    "EngineClosedError",
    "ForbiddenInWorkflowError",
    "HandlerFailed",
    "HandlerUnreachableError",
    "HistoryFileError",
    "HistoryFullError",
    "HttpStatusError",
    "InboxFullError",
    "InvalidAnswerError",
    "LimitExceededError",
    "MapFailed",
    "MovingError",
    "NamespaceError",
    "NewerSchemaError",
    "NoCodeError",
    "NonDeterminismError",
    "NotADatabaseError",
    "NotSerializableError",
    "NothingToDecideError",
    "OlderWorkersError",
    "OutcomeUnknown",
    "PayloadTooLargeError",
    "PerdureError",
    "Permanent",
    "QuestionAnsweredError",
    "QuestionClosedError",
    "QuestionError",
    "QuotaExceededError",
    "RateLimited",
    "ReadOnlyError",
    "Retryable",
    "RunCancelled",
    "RunConflictError",
    "RunEndedError",
    "RunError",
    "RunFailed",
    "RunTerminated",
    "RunTimedOut",
    "ScheduleConflictError",
    "SealedError",
    "SecretUnavailableError",
    "StaleWorkerError",
    "StepFailed",
    "StepProcessDied",
    "StoreError",
    "StoreUnavailableError",
    "TooManyPendingError",
    "TravelError",
    "TurnLimitError",
    "UndecodableError",
    "UnknownCallbackError",
    "UnknownHandlerError",
    "UnknownQuestionError",
    "UnknownRunError",
    "UnknownScheduleError",
    "UpdateRejected",
    "UsageError",
    "ValidatorActedError",
]

# Histories hold the full names of errors, and an error is found again by its name (codec/rebuild.py). So that name
# doesn't tell the file: `perdure.errors.StepFailed` stays what it is wherever it is defined.
for _name in __all__:
    globals()[_name].__module__ = __name__
