"""Where output goes, and how values, moments and durations read.

Results and listings go to stdout, everything else to stderr. Texts from runs are data: they are never taken
as markup, and what could control a terminal is shown escaped.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.api.logs import configure
from perdure.api.steplogs import StepLogHandler
from perdure.api.wording import ago, clock_time, duration, moment, one_line, printable
from perdure.core.status import Status

__all__ = [
    "STATUS_STYLES",
    "ago",
    "clock_time",
    "complain",
    "duration",
    "err",
    "keep_step_logs",
    "log_to_stderr",
    "moment",
    "one_line",
    "out",
    "print_json",
    "printable",
    "tell",
]

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


def keep_step_logs(level: int) -> None:
    """Keep with their runs what steps log; also by `perdure.log` if nobody has set another level for it."""
    logging.getLogger().addHandler(StepLogHandler(level))
    users = logging.getLogger("perdure.run")
    if users.level == logging.NOTSET:
        users.setLevel(level)


def log_to_stderr(level: int, format: str | None = None) -> None:
    """Let the engine's own log lines be read. If the code that was loaded has set up its log, that stays as it is.

    Args:
        format: "text" or "json"; by default what PERDURE_LOG_FORMAT says, else text.

    Raises:
        ConfigurationError: it is neither.
    """
    chosen = format or os.environ.get("PERDURE_LOG_FORMAT")
    if chosen is None and logging.getLogger().handlers:
        logging.getLogger("perdure").setLevel(level)
    else:
        configure(chosen or "text", level=level)
