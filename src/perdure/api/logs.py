"""Logs that tell of which run they are: fields for records, and formats for people and for machines.

    handler = logging.StreamHandler()
    handler.setFormatter(perdure.logs.JsonFormatter())
    handler.addFilter(perdure.logs.ContextFilter())
    logging.getLogger().addHandler(handler)

What a step logs, by whatever logger, is stamped with the run, the step, the attempt, the worker, and the trace if there
is one; so is what workflow code logs, and what the engine says about a run. While a run is replayed, what its code logs
was logged before: the filter leaves that out, as `perdure.log` does by itself.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from perdure.api.call import current_machine
from perdure.codec.redaction import mask, mask_value
from perdure.core.machine import Machine
from perdure.errors import ConfigurationError
from perdure.runtime.logfields import FIELDS, about_here, about_run

#: What all records have; the rest was given with `extra=`.
_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_STAMP: Final = "_perdure_stamped"


def _fields_here() -> dict[str, Any]:
    machine = current_machine()
    if machine is None:
        return about_here()
    driver: Any = machine.supervisor
    if driver is not None and hasattr(driver, "host"):
        return about_run(driver)
    return {"run_id": machine.run_id, "workflow": machine.workflow}


def _silent(machine: Machine | None) -> bool:
    return machine is not None and (machine.replaying or machine.inert)


def stamp(record: logging.LogRecord) -> None:
    """Say in a record what it is about, where it doesn't say so itself. To be done where it is made: in that thread."""
    if getattr(record, _STAMP, False):
        return
    setattr(record, _STAMP, True)
    for name, value in _fields_here().items():
        if getattr(record, name, None) is None:
            setattr(record, name, value)


class ContextFilter(logging.Filter):
    """Stamps records with `run_id`, `workflow`, `step_id`, `attempt`, `worker`, `trace_id` and the like, as they apply.

    Add it to a handler, so that it sees the records of all loggers. A `QueueHandler` needs it, since the formatter
    of what comes behind is in another thread. Formatters of this module stamp what isn't stamped yet.

    Args:
        replays: let pass what workflow code logs while it is replayed, too. `perdure.log` is silent then anyway.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(ContextFilter())
    """

    def __init__(self, *, replays: bool = False) -> None:
        super().__init__()
        self._replays = replays

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._replays and not f"{record.name}.".startswith("perdure.") and _silent(current_machine()):
            return False
        stamp(record)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; what it is about; what was given with `extra=`; the error.

    Values of secrets, and what an engine's `redact=` finds, are masked. What has no JSON form is told by its `str()`.

    Args:
        fields: added to each line, such as the service's name.

    Example:
        >>> told = {"name": "shop", "levelname": "INFO", "msg": "sold", "created": 0.0, "sku": 7}
        >>> record = logging.makeLogRecord(told)
        >>> JsonFormatter().format(record)
        '{"time": "1970-01-01T00:00:00.000000Z", "level": "INFO", "logger": "shop", "message": "sold", "sku": 7}'
    """

    def __init__(self, fields: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        stamp(record)
        line: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
            **self._fields,
        }
        given = vars(record)
        line |= {name: given[name] for name in FIELDS if given.get(name) is not None}
        extra = {name: value for name, value in given.items() if name not in _ORDINARY and name != _STAMP}
        line |= {
            name: _plain(value) for name, value in extra.items() if name not in line and name not in FIELDS
        }
        if (error := _error(record)) is not None:
            line["error"] = error
        if record.stack_info:
            line["stack"] = mask(record.stack_info)
        return json.dumps(line, ensure_ascii=False, default=_text)


class TextFormatter(logging.Formatter):
    """A line for people, which ends with what it is about.

    Example:
        >>> record = logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": "sold", "run_id": "r-1"})
        >>> TextFormatter().format(record).partition(" INFO ")[2]
        'shop: sold [run r-1]'
    """

    def format(self, record: logging.LogRecord) -> str:
        stamp(record)
        about = _about(record)
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        told = f"{at},{int(record.msecs):03d} {record.levelname} {record.name}: {mask(record.getMessage())}{about}"
        if record.exc_info and record.exc_info[1] is not None:
            told += "\n" + mask("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
        elif record.exc_text:
            told += "\n" + mask(record.exc_text)
        return told if not record.stack_info else f"{told}\n{mask(record.stack_info)}"


def configure(
    format: str = "text",
    *,
    level: int | str = logging.INFO,
    others: int | str = logging.WARNING,
    stream: TextIO | None = None,
) -> logging.Handler:
    """Let the process's log be read: a handler for all loggers, with `ContextFilter`, in one of the formats.

    Doing it again replaces that handler; others stay.

    Args:
        format: "text" or "json".
        level: from which on lines of `perdure` count, those of `perdure.log` among them.
        others: from which on all other lines count.
        stream: by default stderr.

    Raises:
        ConfigurationError: the format isn't one.

    Example:
        >>> configure("json")  # doctest: +SKIP
    """
    kinds: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
    if format not in kinds:
        msg = f'format={format!r}: logs are written as "text" or "json"'
        raise ConfigurationError(msg)
    root = logging.getLogger()
    for former in [handler for handler in root.handlers if getattr(handler, _STAMP, False)]:
        root.removeHandler(former)
    handler: logging.Handler = logging.StreamHandler(stream or sys.stderr)
    setattr(handler, _STAMP, True)
    handler.setFormatter(kinds[format]())
    handler.addFilter(ContextFilter())
    root.addHandler(handler)
    root.setLevel(others)
    logging.getLogger("perdure").setLevel(level)
    return handler


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _about(record: logging.LogRecord) -> str:
    given = vars(record)
    told = [f"run {given['run_id']}"] if given.get("run_id") else []
    if step := given.get("step_id"):
        number = given.get("attempt")
        told.append(f"step {step}" if number in (None, 1) else f"step {step}, attempt {number}")
    return f" [{', '.join(told)}]" if told else ""


def _error(record: logging.LogRecord) -> dict[str, str] | None:
    if record.exc_info and (raised := record.exc_info[1]) is not None:
        kind = type(raised)
        return {
            "type": kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}",
            "message": mask(_text(raised)),
            "traceback": mask("".join(traceback.format_exception(raised))),
        }
    return {"traceback": mask(record.exc_text)} if record.exc_text else None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return mask(value)
    try:
        return mask_value(json.loads(json.dumps(value, default=_text, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        return mask(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a log line mustn't fail for its argument
        return f"<{type(value).__name__} whose str() raised {type(error).__name__}>"
