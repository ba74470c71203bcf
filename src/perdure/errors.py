"""Every error Perdure raises, in one tree.

    PerdureError
    ├── ConfigurationError            the program is set up wrongly
    │   └── DuplicateNameError        two definitions share one durable name
    ├── UsageError                    a durable call was made in the wrong place
    │   ├── ForbiddenInWorkflowError  I/O, threads or sockets inside workflow code
    │   └── DurableCallInStepError    a workflow or step was awaited inside a step
    ├── NotSerializableError          a value can't be carried by its declared type
    │   └── PayloadTooLargeError      a value is larger than the engine's limit
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
    ├── NothingToDecideError          no such step of the run waits for a person
    ├── RunError                      a run ended without a result
    │   ├── RunFailed                 an exception left the workflow function
    │   │   └── RunTimedOut           the run was past its timeout
    │   ├── RunCancelled              the run was cancelled
    │   └── RunTerminated             the run was terminated from outside
    ├── StepFailed                    a step failed for good; its class can't be rebuilt here
    ├── StepProcessDied               the process that executed a step was killed, or crashed
    ├── CallbackFailed                somebody outside failed a callback that the code awaits
    ├── CallbackError                 a callback can't be completed
    │   ├── UnknownCallbackError      no callback has this token
    │   ├── CallbackCompletedError    it was completed or failed before
    │   └── CallbackExpiredError      its time is over, or its run has ended
    ├── CompensationFailed            a saga couldn't undo all that was done
    ├── MapFailed                     more items of a map failed than its limits tolerate
    ├── NonDeterminismError           history and code disagree (blocks the run)
    ├── UndecodableError              a recorded value doesn't fit the code's type (blocks the run)
    ├── TurnLimitError                workflow code span without awaiting (blocks the run)
    ├── Retryable                     raised by steps: try again
    ├── Permanent                     raised by steps: don't try again
    ├── OutcomeUnknown                raised by steps: it may have happened, or not
    ├── MovingError                   runs can't be moved, exported or imported
    ├── EngineClosedError             the engine isn't open
    └── StoreError                    the database can't be used
        ├── StaleWorkerError          another worker drives this run now
        ├── NotADatabaseError         the file is something else
        ├── NewerSchemaError          the file was written by a newer Perdure
        └── StoreUnavailableError     full, read-only, locked or failing disk

Split by what the caller can do about it. Each message says what happened, why, and what to do next. Signals the engine
uses to unwind code derive from BaseException and live with their users, so `except Exception` can't swallow them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

__all__ = [
    "CallbackCompletedError",
    "CallbackError",
    "CallbackExpiredError",
    "CallbackFailed",
    "CompensationFailed",
    "ConfigurationError",
    "DuplicateNameError",
    "DurableCallInStepError",
    "EngineClosedError",
    "ForbiddenInWorkflowError",
    "HandlerFailed",
    "HandlerUnreachableError",
    "MapFailed",
    "MovingError",
    "NewerSchemaError",
    "NonDeterminismError",
    "NotADatabaseError",
    "NotSerializableError",
    "NothingToDecideError",
    "OutcomeUnknown",
    "PayloadTooLargeError",
    "PerdureError",
    "Permanent",
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
    "StaleWorkerError",
    "StepFailed",
    "StepProcessDied",
    "StoreError",
    "StoreUnavailableError",
    "TurnLimitError",
    "UndecodableError",
    "UnknownCallbackError",
    "UnknownHandlerError",
    "UnknownRunError",
    "UnknownScheduleError",
    "UpdateRejected",
    "UsageError",
    "ValidatorActedError",
]


class PerdureError(Exception):
    """Base of every error that Perdure raises."""


class ConfigurationError(PerdureError):
    """The program is set up in a way that can't work; the message names the setting and the mend."""


class DuplicateNameError(ConfigurationError):
    """Two different functions were registered under one durable name."""


class UsageError(PerdureError):
    """A durable call was made in a place where it can't work."""


class ForbiddenInWorkflowError(UsageError):
    """Workflow code did something that can't be replayed: I/O, threads, sockets, subprocesses, sleeping.

    Put it into a `@step` and await that instead.
    """


class DurableCallInStepError(UsageError):
    """A step awaited a workflow, another step, or a durable wait. Steps are leaves: they do I/O only."""


class NotSerializableError(PerdureError):
    """A value can't be written, or wouldn't come back as what its annotation promises."""


class PayloadTooLargeError(NotSerializableError):
    """An encoded value is larger than the engine's `max_payload`."""


class UnknownRunError(PerdureError):
    """No run has this id.

    Attributes:
        run_id: the id that was asked for.
    """

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunConflictError(PerdureError):
    """The id is taken by a run of another workflow, or by one with other input."""


class UnknownScheduleError(PerdureError):
    """No schedule has this name."""


class ScheduleConflictError(PerdureError):
    """The name is taken by a schedule that is defined otherwise."""


class RunEndedError(RunConflictError):
    """The run has ended: it takes no messages and updates any more, and what it hadn't finished is lost."""


class UnknownHandlerError(PerdureError):
    """The run has no query or update handler of this name; the message names those it has."""


class ReadOnlyError(PerdureError):
    """A query handler or a validator tried to act. They only look; what acts belongs into an update handler."""


class UpdateRejected(PerdureError):
    """An update was turned down by its validator (whose text this is), or its arguments don't fit the handler.

    Nothing of it is in the run's history.
    """


class ValidatorActedError(UpdateRejected, ReadOnlyError):
    """An update was rejected because its validator tried to act."""


class HandlerFailed(PerdureError):
    """A query or update handler failed with an exception whose class can't be rebuilt in this process.

    Attributes:
        type: the original exception's qualified class name.
    """

    def __init__(self, message: str, *, type: str = "") -> None:
        super().__init__(message)
        self.type = type


class HandlerUnreachableError(PerdureError):
    """A query wasn't answered: no process that has the workflow's code could be reached in time."""


class NothingToDecideError(PerdureError):
    """No step of this name waits for a person's decision in this run; the message lists those that do."""


class RunError(PerdureError):
    """A run ended without a result.

    Attributes:
        run_id: the run that ended.
    """

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailed(RunError):
    """An exception left the workflow function. `__cause__` is that exception as far as it can be rebuilt."""


class RunTimedOut(RunFailed):
    """The run was still going at the end of its `timeout=`, and was cancelled."""


class RunCancelled(RunError):
    """The run was cancelled and let the cancellation through."""


class RunTerminated(RunError):
    """The run was ended from outside without running its code."""


class StepFailed(PerdureError):
    """A step failed for good with an exception whose class can't be rebuilt in this process.

    Attributes:
        step: the step's id within its run.
        type: the original exception's qualified class name.
        attempts: how many attempts were made.
    """

    def __init__(self, message: str, *, step: str = "", type: str = "", attempts: int = 0) -> None:
        super().__init__(message)
        self.step = step
        self.type = type
        self.attempts = attempts


class StepProcessDied(PerdureError):
    """The process that executed a step died: by `signal` ("SIGSEGV", ...), or with `exit_code`. Tried again."""

    def __init__(self, message: str, *, signal: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code


class CallbackFailed(PerdureError):
    """Somebody outside failed a callback, or sent a value that isn't what the code expects.

    Attributes:
        callback: its id within the run.
    """

    def __init__(self, message: str, *, callback: str = "") -> None:
        super().__init__(message)
        self.callback = callback


class CallbackError(PerdureError):
    """A callback can't be completed, failed or kept alive. Nothing was changed.

    Attributes:
        run_id: the run it belongs to, "" if that isn't known.
    """

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class UnknownCallbackError(CallbackError):
    """No callback in this database has this token."""


class CallbackCompletedError(CallbackError):
    """The callback was completed or failed before; that can be done once."""


class CallbackExpiredError(CallbackError):
    """The callback's time is over, or the run it belongs to has ended."""


class MapFailed(PerdureError):
    """More items of a `map` failed than its limits tolerate. `__cause__` is the first item's error.

    Attributes:
        result: the MapResult, with what every item came to; None where the error is seen outside of its run.
    """

    result: Any = None

    def __init__(self, message: str, *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class CompensationFailed(PerdureError):
    """A saga couldn't undo all that was done. Its cause is the error that made the saga undo.

    Attributes:
        left: ids of the steps and child runs that failed, in the order in which they were made: what is left undone.
        errors: what they failed with, where the saga raised it; empty in an error that was rebuilt.
    """

    errors: Sequence[BaseException] = ()

    def __init__(self, message: str, *, left: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.left = list(left)


class NonDeterminismError(PerdureError):
    """The history says one thing and the code another. Blocks the run before any new effect."""


class UndecodableError(PerdureError):
    """A recorded value can't be read as the type the code declares today. Blocks the run."""


class TurnLimitError(PerdureError):
    """Workflow code ran longer than `turn_limit` without awaiting anything durable. Blocks the run."""


class Retryable(PerdureError):
    """Raise in a step to have it tried again, whatever its retry policy says about the error's class.

    Args:
        message: what went wrong.
        after: the least time to wait before the next attempt, in seconds or as a timedelta.

    Example:
        >>> raise Retryable("the export isn't ready", after=30)
        Traceback (most recent call last):
        perdure.errors.Retryable: the export isn't ready
    """

    def __init__(self, message: str = "try again", *, after: float | timedelta | None = None) -> None:
        super().__init__(message)
        self.after = after.total_seconds() if isinstance(after, timedelta) else after


class Permanent(PerdureError):
    """Raise in a step to fail it at once, whatever its retry policy says."""


class OutcomeUnknown(PerdureError):
    """Raise in a step that can't tell whether what it is for has happened: the answer got lost, say.

    A `once=True` step is then looked into (`verify=`) or waits for a person. Any other step is tried again, and
    waits for a person when its attempts are used up.
    """


class MovingError(PerdureError):
    """Runs can't be moved, exported or imported: the other side has them, or the file isn't whole."""


class EngineClosedError(PerdureError):
    """The engine isn't open: use it inside `async with Engine(...)`."""


class StoreError(PerdureError):
    """The database can't do what was asked."""


class StaleWorkerError(StoreError):
    """Another worker took this run over; this one must drop what it holds of it."""


class NotADatabaseError(StoreError):
    """The file at this path isn't a Perdure database."""


class NewerSchemaError(StoreError):
    """The database was written by a newer version of Perdure than this one."""


class StoreUnavailableError(StoreError):
    """The database can't be reached or written: full disk, read-only file, lock, I/O error."""
