"""What can go wrong at a provider, to be played on demand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """The ways to go wrong."""

    RATE_LIMIT = "rate_limit"  #: 429
    OVERLOADED = "overloaded"  #: 529 where Anthropic is asked, 503 elsewhere
    SERVER_ERROR = "server_error"  #: 500
    BAD_REQUEST = "bad_request"  #: 400
    UNAUTHORISED = "unauthorised"  #: 401
    USAGE_CAP = "usage_cap"  #: the customer's own spending limit is reached
    QUOTA = "quota"  #: the customer's credit is used up, and nobody knows until when
    HANG = "hang"  #: the answer takes its time
    LOST = "lost"  #: the work is done and billed, and the connection closes without an answer
    CUT = "cut"  #: the work is done and billed, and the answer ends in its middle


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one request. Use the functions that make one.

    Attributes:
        kind: what goes wrong.
        retry_after: seconds that the answer asks to wait; None says nothing of that.
        until: when a usage cap ends.
        seconds: how long an answer hangs.
        pieces: after how many pieces of a stream the connection is cut.
        header: whether `Retry-After` is said in a header; else only where the provider's body has a place for it.
    """

    kind: Kind
    retry_after: float | None = None
    until: datetime | None = None
    seconds: float = 0.0
    pieces: int = 1
    header: bool = True


def rate_limited(retry_after: float | None = 1.0, *, header: bool = True) -> Fault:
    """429, with the seconds to wait."""
    return Fault(Kind.RATE_LIMIT, retry_after=retry_after, header=header)


def overloaded(retry_after: float | None = None) -> Fault:
    """Anthropic's 529, or a 503."""
    return Fault(Kind.OVERLOADED, retry_after=retry_after)


def server_error() -> Fault:
    """500."""
    return Fault(Kind.SERVER_ERROR)


def bad_request() -> Fault:
    """400, as for a prompt that is too long."""
    return Fault(Kind.BAD_REQUEST)


def unauthorised() -> Fault:
    """401."""
    return Fault(Kind.UNAUTHORISED)


def usage_cap(until: datetime) -> Fault:
    """The customer's own limit is reached.

    Anthropic says so by a 400 that names the day on which it ends, OpenAI by a 429 without one, Gemini by the
    quota of a day.
    """
    return Fault(Kind.USAGE_CAP, until=until)


def quota_used_up() -> Fault:
    """There is no credit left: OpenAI's `insufficient_quota`, Anthropic's `billing_error`."""
    return Fault(Kind.QUOTA)


def hang(seconds: float) -> Fault:
    """The answer comes so much later."""
    return Fault(Kind.HANG, seconds=seconds)


def lost() -> Fault:
    """The work is done and billed, and no answer arrives."""
    return Fault(Kind.LOST)


def cut(after: int = 1) -> Fault:
    """The answer breaks off: a stream after so many pieces, a whole one in its middle. It is billed."""
    return Fault(Kind.CUT, pieces=after)
