"""What an exception tells of an HTTP answer, recognised by its shape: no client library is imported here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any


def http_status(error: BaseException) -> int | None:
    """The HTTP status an error carries, if it looks like an HTTP client's."""
    response = getattr(error, "response", None)
    for holder, name in (
        (response, "status_code"),
        (error, "status_code"),
        (response, "status"),
        (error, "status"),
    ):
        status = getattr(holder, name, None)
        if isinstance(status, int) and 100 <= status < 600:
            return status
    return None


def header(error: BaseException) -> Callable[[str], str | None]:
    """Looks headers of the answer up, by their names in lower case."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or getattr(
        error, "headers", None
    )
    look_up: Any = getattr(headers, "get", None)

    def found(name: str) -> str | None:
        if not callable(look_up):
            return None
        value: Any = look_up(name) or look_up(name.title())
        return str(value) if isinstance(value, str | int | float) else None

    return found


def retry_after(error: BaseException, now: float) -> float | None:
    """Seconds that the server asked to wait (RFC 9110, 10.2.3), None if it didn't say.

    Args:
        now: wall-clock seconds, for the form of the header that is a date.
    """
    look_up = header(error)
    exact = _number(look_up("retry-after-ms"))
    if exact is not None:
        return _wait(exact / 1000)
    value = look_up("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        import email.utils  # few servers say it by a date

        try:
            moment = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return None
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    return _wait(seconds)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _wait(seconds: float) -> float | None:
    return max(0.0, seconds) if seconds == seconds and seconds < 1e9 else None
