"""What is known about the failed step behind an exception."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.codec.failures import failure_record


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step's failure.

    Attributes:
        step: the step's id within its run.
        attempts: how many attempts were made.
        type: the original exception's class, `module.QualName`.
        message: its text.
        traceback: the text of its traceback, from where it was raised.
    """

    step: str
    attempts: int
    type: str
    message: str
    traceback: str


def failure(error: BaseException) -> StepFailure | None:
    """Which step an exception came from, and what is known of it; None if no step is behind it.

    Looks at the exception and at what caused it.

    Example:
        >>> try:  # doctest: +SKIP
        ...     await charge(card)
        ... except CardDeclined as error:
        ...     perdure.log.warning("gave up after %d attempts", perdure.failure(error).attempts)
    """
    seen: BaseException | None = error
    for _ in range(32):
        if seen is None:
            return None
        record = failure_record(seen)
        if record is not None:
            told = record.failure
            return StepFailure(record.step, record.attempts, told.type, told.message, told.traceback)
        seen = seen.__cause__
    return None
