"""What steps log, kept with their run: a handler for Python's logging, and reading what it has kept.

    logging.getLogger("shop").addHandler(perdure.StepLogHandler())

Lines go where items of streams go (see runtime/outbox.py), into a stream of their own: durable before the attempt's
outcome is, in order, and readable while the step executes. So nobody who doesn't use it pays for it. Lines of an
attempt that failed stay readable, since these are the ones that people look for. What workflow code logs isn't kept: it
would have to be in the history, and could be made again by a replay. Values of secrets are masked
before a line is kept.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.api.streams import read_stream
from perdure.codec.redaction import mask
from perdure.errors import PerdureError
from perdure.runtime.stepcontext import current_outlet

#: The stream that holds the lines of a run's steps.
STREAM: Final = "perdure:log"
#: Lines of one attempt, and characters of a line and of a traceback, that are kept.
LINES_MAX: Final = 1000
TEXT_MAX: Final = 4000
TRACEBACK_MAX: Final = 20_000

_OURS = "perdure."
_USERS = "perdure.run"  # that of perdure.log


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    at: float
    level: str
    logger: str
    text: str
    error: str = ""


_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that a step has logged, from `handle.step_logs()`.

    Attributes:
        offset: its place among the run's lines, from 1.
        at: when.
        level: "INFO", "WARNING", ...
        logger: the logger's name.
        text: the message.
        error: the traceback that was logged with it, "" without one.
        step: the step's id within its run.
        attempt: from 1.
    """

    offset: int
    at: datetime
    level: str
    logger: str
    text: str
    error: str
    step: str
    attempt: int


class StepLogHandler(logging.Handler):
    """Keeps what steps log with their runs, where `handle.step_logs()`, `perdure logs` and the dashboard find it.

    Add it to a logger of yours, or to the root logger. Of an attempt the first 1,000 lines are kept, and of a line the
    first 4,000 characters. An attempt that logs waits at its end until its lines are durable, which is one commit more.

    Args:
        level: the least that is kept.

    Example:
        >>> logging.getLogger("shop").addHandler(StepLogHandler(logging.INFO))
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, if a step made it."""
        outlet_of = current_outlet.get()
        if outlet_of is None or current_machine() is not None:
            return
        if record.name.startswith(_OURS) and record.name != _USERS:
            return  # the engine's own, which may be about keeping lines
        try:
            outlet = outlet_of()
            outlet.logged += 1
            if outlet.logged > LINES_MAX + 1:
                return
            if outlet.logged > LINES_MAX:
                text, error = f"{LINES_MAX} lines of this attempt are kept; what follows isn't", ""
            else:
                text, error = _cut(mask(record.getMessage()), TEXT_MAX), _error(record)
            kept = _Kept(record.created, record.levelname, record.name, text, error)
            with contextlib.suppress(PerdureError):  # the attempt counts no more
                outlet.emit(STREAM, _encode(kept))
        except Exception:  # noqa: BLE001 - as any handler: a line that can't be kept mustn't fail the step
            self.handleError(record)


def _error(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[1] is not None:
        return _cut(mask("".join(traceback.format_exception(record.exc_info[1]))), TRACEBACK_MAX)
    return _cut(mask(record.exc_text or ""), TRACEBACK_MAX)


def _cut(text: str, most: int) -> str:
    text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair isn't JSON
    return text if len(text) <= most else f"{text[:most]}… {len(text) - most:,} more characters"


async def read_lines(connection: Connection, id: str, *, after: int, follow: bool) -> AsyncIterator[LogLine]:
    """The lines of a run's steps; see Handle.step_logs."""
    items = read_stream(connection, id, STREAM, after=after, type=_Kept, superseded=True, follow=follow)
    async for item in items:
        if item.kind == "item":
            kept: _Kept = item.value
            yield LogLine(
                offset=item.offset,
                at=datetime.fromtimestamp(kept.at, UTC),
                level=kept.level,
                logger=kept.logger,
                text=kept.text,
                error=kept.error,
                step=item.step or "",
                attempt=item.attempt or 1,
            )
