"""Steps that fail, what they raise to say what comes next, and work made of many of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from perdure.errors.base import PerdureError


class NothingToDecideError(PerdureError):
    """No step of this name waits for a person's decision in this run, or not for the one that was meant.

    The message lists those that wait.

    Attributes:
        since: when the step's wait began, wall-clock seconds, if a decision was meant for another one of its waits.
    """

    def __init__(self, message: str, *, since: float | None = None) -> None:
        super().__init__(message)
        self.since = since


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


class HttpStatusError(PerdureError):
    """A server has answered a request of `perdure.ai.durable_http` with a status of 400 or more.

    Workflow code sees what its client makes of the same answer.

    Attributes:
        status_code: the HTTP status.
        provider: who has answered; what workers call it that wait together.
        speaks: whose wire format it has: "openai", "anthropic", "google", or None.
        headers: those of the answer that are recorded, by their names in lower case.
        text: the answer's body.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,
        provider: str = "",
        speaks: str | None = None,
        headers: Mapping[str, str] | None = None,
        text: str = "",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.provider = provider
        self.speaks = speaks
        self.headers = dict(headers or {})
        self.text = text

    @property
    def body(self) -> Any:
        """The body as data, if it is JSON; else its text."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text

    details = body


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


class ApprovalRejected(PerdureError):
    """A step that needed a person's approval wasn't approved; its body hasn't run.

    Attributes:
        comment: what the person said to that.
        by: who it was, if that is known.
        step: the step's id within the run.
    """

    def __init__(self, message: str, *, comment: str = "", by: str | None = None, step: str = "") -> None:
        super().__init__(message)
        self.comment = comment
        self.by = by
        self.step = step


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


class RateLimited(Retryable):
    """Raise in a step when the other side takes no more for now. All workers then hold back what has this limit.

    HTTP errors with the status 429 or 529 are taken for it without that, as are the errors by which the clients of
    OpenAI, Anthropic and Google tell of limits and caps. In a step with a rate limit it doesn't count as an attempt:
    the step waits, and is tried again however often that happens.

    Args:
        message: what the other side said.
        after: how long it takes no more, in seconds or as a timedelta; if that isn't known, longer each time.
        limit: the rate limit, or its name; the first one of the step if not given.

    Example:
        >>> raise RateLimited("try again in 20 s", after=20)
        Traceback (most recent call last):
        perdure.errors.RateLimited: try again in 20 s
    """

    def __init__(
        self,
        message: str = "the rate limit is exceeded",
        *,
        after: float | timedelta | None = None,
        limit: Any = None,
    ) -> None:
        super().__init__(message, after=after)
        name = getattr(limit, "name", limit)
        self.limit: str | None = None if name is None else str(name)


class BudgetExceeded(PerdureError):
    """A budget has no money for a step's next call, and says `on_exhausted="fail"`. The call wasn't made.

    The message says which budget it is, and how much of it is spent.
    """


class Permanent(PerdureError):
    """Raise in a step to fail it at once, whatever its retry policy says."""


class OutcomeUnknown(PerdureError):
    """Raise in a step that can't tell whether what it is for has happened: the answer got lost, say.

    A `once=True` step is then looked into (`verify=`) or waits for a person. Any other step is tried again, and
    waits for a person when its attempts are used up.
    """


class EffectRefused(PerdureError):
    """A step would have an effect outside, and its run is a counterfactual fork, which has none. It wasn't begun."""
