"""Lengths of time and moments as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from perdure.cli.trouble import Trouble

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def length(text: str, what: str) -> timedelta:
    """From "90s", "5m" or "1h30m" to a length of time.

    Raises:
        Trouble: it is none. `what` names the option.
    """
    try:
        return timedelta(seconds=_seconds(text))
    except (ValueError, OverflowError):
        raise Trouble(f"{what} {text!r} is no length of time: write 45s, 30m, 1h30m, 7d or 2w.") from None


def moment_of(text: str, what: str) -> datetime:
    """From an ISO date (in local time, if it names no zone), or from how long ago it was, to a moment.

    Raises:
        Trouble: it is neither.
    """
    try:
        return datetime.now(UTC) - timedelta(seconds=_seconds(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        now = datetime.now(UTC)
        raise Trouble(
            f"{what} {text!r} is no moment: give a date such as {now:%Y-%m-%d} or {now:%Y-%m-%dT%H:%M+00:00}, or how "
            "long ago it was, such as 45s, 30m, 2h, 7d."
        ) from None


def _seconds(text: str) -> float:
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhdw])", text))
