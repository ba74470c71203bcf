"""Where output goes, and how values, moments and durations read.

Results and listings go to stdout, everything else to stderr. Texts from runs are data: they are never taken
as markup, and what could control a terminal is shown escaped.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.core.status import Status

STATUS_STYLES = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.TERMINATED: "red",
    Status.BLOCKED: "bold red",
    Status.CANCELLED: "yellow",
    Status.PAUSED: "yellow",
    Status.RUNNING: "cyan",
    Status.WAITING: "blue",
    Status.QUEUED: "dim",
    Status.CONTINUED: "dim",
}

#: Columns where nobody says how many there are, as in a pipe or a log: lines are then better long than cut.
_WIDE = 160


def out() -> Console:
    """For what the command is asked for."""
    return _console(stderr=False)


def err() -> Console:
    """For everything else."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Made anew each time: rich binds the stream it finds, and tests exchange it.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def complain(message: str) -> None:
    """Tell on stderr why the command can't go on."""
    err().print(Text("Error: ", style="bold red").append(printable(message), style="default"), soft_wrap=True)


def tell(message: str) -> None:
    """Tell on stderr what is going on."""
    err().print(printable(message), soft_wrap=True)


def print_json(value: Any) -> None:
    """Plain JSON on stdout, for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def log_to_stderr(level: int) -> None:
    """Let the engine's own log lines be read."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("perdure").setLevel(level)


def printable(text: str) -> str:
    """The text without anything that a terminal would obey. Line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def one_line(text: str, length: int | None = 60) -> str:
    """The text on one line, its end cut off where it is too long. None: nothing is cut."""
    flat = printable(" ".join(text.split()))
    return flat if length is None or len(flat) <= length else flat[: length - 1] + "…"


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> duration(0.0123), duration(4.21), duration(95), duration(90061)
        ('12 ms', '4.2 s', '1 min 35 s', '1 d 1 h')
    """
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or how far ahead, a moment is."""
    distance = (now - moment).total_seconds()
    return f"{duration(distance)} ago" if distance >= 0 else f"in {duration(-distance)}"


def clock_time(moment: datetime) -> str:
    """A moment in the local time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment(at: float) -> datetime:
    """From the seconds of an event."""
    return datetime.fromtimestamp(at, UTC)
