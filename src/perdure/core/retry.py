"""Retry arithmetic: from (policy, error, attempt, clock) to "again at" or "no more".

The delay before attempt n + 1 is `min(max_interval, initial * backoff ** (n - 1))`, times a random
factor between 0.5 and 1.0 ("equal jitter": it spreads a herd of retries without ever halving the wait
below half). `Retryable(after=...)` and an HTTP `Retry-After` are minimums on top.

Without an explicit policy only *transient* errors are tried again: the network's and the operating
system's, and HTTP 408, 425, 429 and 5xx; a programming error fails at once. HTTP errors are recognised
by their shape (`error.response.status_code`, `error.status`), since no client library is imported here.
"""

from __future__ import annotations

import dataclasses
import math
from datetime import timedelta
from typing import Literal

from perdure.core.answers import http_status, retry_after
from perdure.core.refusals import Refusal, Why, of_models, refusal
from perdure.errors import (
    BudgetExceeded,
    ConfigurationError,
    NotSerializableError,
    OutcomeUnknown,
    PerdureError,
    Permanent,
    RateLimited,
    Retryable,
    StepProcessDied,
    UndecodableError,
)

#: HTTP statuses worth another try: request timeout, too early, too many requests (RFC 9110, 8470, 6585).
TRANSIENT_HTTP = frozenset({408, 425, 429})

#: OSErrors that describe a mistake and not a moment; they don't go away by waiting.
LASTING_OS_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)

#: Classes by which HTTP clients report trouble on the wire, where they aren't OSErrors.
_WIRE_ERRORS = frozenset(
    {
        "TransportError",
        "ClientConnectionError",
        "NetworkError",
        "TimeoutException",
        "APIConnectionError",
        "ModelConnectionError",
        "ModelServerError",
        "ModelUnavailableError",
    }
)
_WIRE_CLIENTS = (
    "httpx",
    "httpx2",
    "httpcore",
    "aiohttp",
    "requests",
    "urllib3",
    "openai",
    "anthropic",
    "pydantic_ai",
)


#: Databases' errors that another attempt may not meet, by their driver.
_DATABASE_ERRORS = frozenset(
    {
        ("psycopg", "OperationalError"),  # serialisation failures and deadlocks are among them
        ("apsw", "BusyError"),
        ("apsw", "LockedError"),
        ("sqlalchemy", "TimeoutError"),
        ("asyncpg", "PostgresConnectionError"),
        ("pymysql", "OperationalError"),
        ("MySQLdb", "OperationalError"),
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and when a failed step is tried again.

    An explicit policy retries every Exception but `Permanent`; narrow it with `on` and `never`.

    Args:
        max_attempts: attempts in all, the first included.
        initial: seconds before the second attempt.
        backoff: each further delay is this many times the one before.
        max_interval: longest delay, in seconds.
        jitter: take 0.5-1.0 of each delay at random.
        on: only errors of these classes are tried again.
        never: errors of these classes are not.
        on_exhausted: what follows when the attempts, or the step's deadline, are used up: "fail" fails the step,
            "block" parks it until a person decides (`perdure resolve`).

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> Retry(max_attempts=3, initial=0.5).delay(attempt=2, chance=1.0)
        1.0
    """

    max_attempts: int = 10
    initial: float = 1.0
    backoff: float = 2.0
    max_interval: float = 60.0
    jitter: bool = True
    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] = ()
    on_exhausted: Literal["fail", "block"] = "fail"

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            msg = (
                f"Retry(max_attempts={self.max_attempts}): the first attempt counts, so it must be at least 1"
            )
            raise ValueError(msg)
        numbers = (self.initial, self.max_interval, self.backoff)
        if not (all(map(math.isfinite, numbers)) and min(numbers) >= 0 and self.backoff >= 1):
            msg = f"{self}: initial and max_interval are seconds >= 0, backoff is a factor >= 1, all finite"
            raise ValueError(msg)
        if self.on_exhausted not in ("fail", "block"):
            msg = f'Retry(on_exhausted={self.on_exhausted!r}): it is "fail" or "block"'
            raise ValueError(msg)

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after failed attempt number `attempt`.

        Args:
            attempt: number of the attempt that failed, from 1.
            chance: a random number in [0, 1).
        """
        try:
            full = min(self.max_interval, self.initial * self.backoff ** (attempt - 1))
        except OverflowError:  # backoff ** attempt left the range of floats long after max_interval
            full = self.max_interval
        return full * (0.5 + 0.5 * chance) if self.jitter else full

    def covers(self, error: BaseException) -> bool:
        """Whether errors of this class are tried again under this policy."""
        return isinstance(error, self.on) and not isinstance(error, self.never)


class _TransientOnly(Retry):
    """The policy of steps that name none."""

    def covers(self, error: BaseException) -> bool:
        return is_transient(error)


class _TransientInDatabases(Retry):
    """The policy of transactional steps that name none: to repeat them is safe."""

    def covers(self, error: BaseException) -> bool:
        return is_transient_in_databases(error)


#: How long to hold back if the other side doesn't say.
WHEN_TURNED_AWAY = Retry(initial=2.0, max_interval=300.0)
WHEN_OUT_OF_CREDIT = Retry(initial=60.0, max_interval=3600.0)

DEFAULT_RETRY: Retry = _TransientOnly()
TRANSACTION_RETRY: Retry = _TransientInDatabases()


def is_transient(error: BaseException) -> bool:
    """Whether waiting may make this error go away.

    >>> is_transient(ConnectionResetError()), is_transient(KeyError("x"))
    (True, False)
    """
    status = http_status(error)
    if status is not None:
        return status in TRANSIENT_HTTP or 500 <= status < 600
    if isinstance(error, StepProcessDied):
        return True
    if members := of_models(error):
        return any(map(is_transient, members))  # one of them may answer then
    if isinstance(error, OSError):  # ConnectionError and TimeoutError are OSErrors
        return not isinstance(error, LASTING_OS_ERRORS)
    return any(
        cls.__name__ in _WIRE_ERRORS and cls.__module__.partition(".")[0] in _WIRE_CLIENTS
        for cls in type(error).__mro__
    )


def is_transient_in_databases(error: BaseException) -> bool:
    """The same for steps on a database: lost connections, locks, deadlocks and failed serialisations pass."""
    if is_transient(error):
        return True
    original = getattr(error, "orig", None)  # what SQLAlchemy has wrapped
    if isinstance(original, Exception) and original is not error:
        return is_transient_in_databases(original)
    if str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return True
    return any(
        (cls.__module__.partition(".")[0], cls.__name__) in _DATABASE_ERRORS for cls in type(error).__mro__
    )


def turned_away(error: BaseException, now: float) -> Refusal | None:
    """How the other side has turned it away, if it has: then nothing has happened.

    Args:
        now: wall-clock seconds.

    >>> turned_away(RateLimited(after=3), 0.0).after, turned_away(TimeoutError(), 0.0)
    (3.0, None)
    """
    if isinstance(error, RateLimited):
        return Refusal(Why.RATE, after=error.after)
    return refusal(error, now)


def open_again_at(refused: Refusal, refusals: int, now: float, chance: float) -> float:
    """When the other side may take more, wall-clock seconds: as it says, or longer each time.

    Args:
        refusals: how often in a row it has turned this away.
        chance: a random number in [0, 1).
    """
    if refused.after:  # 0 would ask again and again, as fast as it can
        return now + refused.after
    policy = WHEN_OUT_OF_CREDIT if refused.why is Why.QUOTA else WHEN_TURNED_AWAY
    return now + policy.delay(refusals, chance)


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt.

    Attributes:
        retry_at: when the next one may start, wall-clock seconds, None = there is none.
        exhausted: there would be a next one, were there attempts or time left.
    """

    retry_at: float | None
    why: str
    exhausted: bool = False


def decide(
    policy: Retry,
    error: BaseException,
    *,
    attempt: int,
    now: float,
    chance: float,
    deadline: float | None = None,
) -> Decision:
    """Whether and when a step is tried again.

    Args:
        attempt: number of the attempt that failed, from 1.
        now: wall-clock seconds.
        chance: a random number in [0, 1).
        deadline: wall-clock seconds after which no attempt may start.
    """
    if isinstance(error, Permanent):
        return Decision(None, "the step raised Permanent")
    asked = isinstance(error, Retryable | OutcomeUnknown)
    if not asked and (
        isinstance(error, NotSerializableError | UndecodableError | ConfigurationError | BudgetExceeded)
        or not isinstance(error, Exception)
    ):
        return Decision(None, "trying again can't mend it")
    if not asked and not policy.covers(error):
        return Decision(None, f"{type(error).__name__} isn't tried again under its policy")
    if attempt >= policy.max_attempts:
        return Decision(None, f"attempt {attempt} was the last of {policy.max_attempts}", exhausted=True)
    wait = policy.delay(attempt, chance)
    least = error.after if isinstance(error, Retryable) else retry_after(error, now)
    retry_at = now + max(wait, least or 0.0)
    if deadline is not None and retry_at >= deadline:
        return Decision(None, "the next attempt would start after the step's deadline", exhausted=True)
    return Decision(retry_at, f"attempt {attempt} of {policy.max_attempts} failed")


def seconds(value: float | timedelta, what: str) -> float:
    """A duration given in seconds or as a timedelta, checked.

    Raises:
        PerdureError: it is negative, or not a number.
    """
    result = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not result >= 0:
        msg = f"{what} is {value!r}: a duration is a number of seconds >= 0, or a timedelta"
        raise PerdureError(msg)
    return result
