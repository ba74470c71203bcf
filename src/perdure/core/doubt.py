"""Steps that must not happen twice: what is known of an attempt that brought no result.

An exception normally says that the effect didn't come about. Some only say that no answer came: a time-out, a
connection that broke after the request was sent. A server may have acted on it or not. For a `once=True` step
such an error settles nothing: its `verify=` probe is asked, or a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from perdure.errors import OutcomeUnknown, StepProcessDied

T = TypeVar("T")

#: How HTTP clients name the errors that come before anything was sent: these are known failures.
_BEFORE_SENDING = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError", "ConnectionTimeoutError"}
)
#: And those that come after.
_AFTER_SENDING = frozenset(
    {
        "TransportError",
        "TimeoutException",
        "ClientConnectionError",
        "ConnectionError",
        "Timeout",
        "ProtocolError",
    }
)
_CLIENTS = ("httpx", "httpx2", "httpcore", "aiohttp", "requests", "urllib3")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a `verify=` probe returns if the step did happen.

    Args:
        value: the step's result, as its body would have returned it.

    Example:
        >>> Done("receipt-7").value
        'receipt-7'
    """

    value: T


def is_doubtful(error: BaseException) -> bool:
    """Whether an error leaves open if the effect came about.

    >>> is_doubtful(TimeoutError()), is_doubtful(ConnectionResetError()), is_doubtful(ConnectionRefusedError())
    (True, True, False)
    """
    if isinstance(error, OutcomeUnknown | StepProcessDied):
        return True
    names = {
        cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in _CLIENTS
    }  # no client is imported here
    if names & _BEFORE_SENDING:
        return False
    if names & _AFTER_SENDING:
        return True
    return isinstance(error, TimeoutError | ConnectionError) and not isinstance(error, ConnectionRefusedError)
