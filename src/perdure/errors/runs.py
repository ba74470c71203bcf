"""Runs and schedules that aren't there or are others than meant; runs that end without a result, or can't go on."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.errors.base import PerdureError


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


class RunEndedError(RunConflictError):
    """The run has ended: it takes no messages and updates any more, and what it hadn't finished is lost."""


class UnknownScheduleError(PerdureError):
    """No schedule has this name."""


class ScheduleConflictError(PerdureError):
    """The name is taken by a schedule that is defined otherwise."""


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


class NonDeterminismError(PerdureError):
    """The history says one thing and the code another. Blocks the run before any new effect.

    Attributes:
        run_id: the run.
        seq: the event that doesn't fit, None if the whole history belongs to other code.
        history_says, code_says: both sides, as half a sentence each.
        places: where each unfinished task of the code stands: "file:line, in function".
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str = "",
        seq: int | None = None,
        history_says: str = "",
        code_says: str = "",
        places: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.seq = seq
        self.history_says = history_says
        self.code_says = code_says
        self.places = tuple(places)


class DamagedHistoryError(PerdureError):
    """The stored history of a run isn't what was recorded. Blocks the run before any new effect.

    Attributes:
        run_id: the run.
        seq: the first event that is damaged or missing, None if it isn't about one.
    """

    def __init__(self, message: str, *, run_id: str = "", seq: int | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.seq = seq


class TurnLimitError(PerdureError):
    """Workflow code ran longer than `turn_limit` without awaiting anything durable. Blocks the run."""
