"""The main program of a process that executes steps for an engine, one after the other (`@step(process=True)`).

It imports the step's module (see offspring.py), finds the step by its durable name, decodes the input, calls the
function and sends back the encoded result or what it raised.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import socket
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure.codec.bare import bases, type_name
from perdure.codec.failures import failure_of
from perdure.codec.values import ValueCodec, check_size
from perdure.core import refusals
from perdure.core.events import Failure
from perdure.runtime.definitions import StepDefinition, step_named
from perdure.runtime.heartbeats import DETAIL_MAX
from perdure.runtime.limits import RateLimit, check_under
from perdure.runtime.offspring import SCRIPT, end, import_code, settle_in
from perdure.runtime.processtalk import (
    Announced,
    Beat,
    Begun,
    Greeting,
    Item,
    Job,
    Late,
    Logged,
    Raised,
    Returned,
    Spent,
    Told,
    Unfound,
    Used,
    frame,
    next_job,
)
from perdure.runtime.spending import Outlay, notice
from perdure.runtime.stepcontext import StepInfo, current_outlet, current_step
from perdure.runtime.tracecontext import enter_alone

_DETAIL = ValueCodec[Any](Any, "detail of a heartbeat")


class Line:
    """The way back to the engine, for the step's thread and for threads that it has started."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, message: Told) -> None:
        """Say something. If there is nobody to hear it, this is the end."""
        data = frame(message)
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError:
            end()

    def beat(self, info: StepInfo, detail: Any) -> None:
        """A heartbeat of the step."""
        if detail is None:
            self.tell(Beat(None))
            return
        data, decoded = _DETAIL.record(detail)
        check_size(data, DETAIL_MAX, "detail of a heartbeat")
        info.detail, info.last_heartbeat = decoded, datetime.now(UTC)
        self.tell(Beat(data))


class Outlet:
    """Takes what the step puts into streams."""

    def __init__(self, line: Line, max_payload: int) -> None:
        self._line = line
        self.max_payload = max_payload
        self.logged = 0

    def emit(self, stream: str, data: bytes) -> None:
        self._line.tell(Item(stream, data))

    def publish(self, name: str, key: str | None, data: bytes) -> None:
        self._line.tell(Announced(name, key, data))


class Permission:
    """The rate limits that the step is under."""

    def __init__(self, line: Line, names: tuple[str, ...]) -> None:
        self._line = line
        self._names = names

    def settle(self, limit: RateLimit, used: Mapping[str, int]) -> None:
        check_under(limit, self._names)
        self._line.tell(Used(limit.name, dict(used)))


class LogSender(logging.Handler):
    """Sends what is logged here to the engine's process, where the log is set up."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            facts: dict[str, str | int | float | None] = {
                name: value
                for name, value in vars(record).items()
                if isinstance(value, str | int | float) and name != "msg"
            }
            facts["msg"] = record.getMessage()
            if record.exc_info:
                facts["exc_text"] = self._formatter.formatException(record.exc_info)
            self._line.tell(Logged(facts))
        except Exception:  # noqa: BLE001 - whatever the arguments of a record raise
            self.handleError(record)


def main(connection: int, lifeline: int, greeting: str) -> None:
    """Execute steps until the engine closes the connection. Both are numbers of open files."""
    told = settle_in(lifeline, greeting)
    with socket.socket(fileno=connection) as open_connection:
        line = Line(open_connection)
        while (job := next_job(open_connection)) is not None:
            answer = _execute(job, told, line)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # user code may have replaced or closed it
                    stream.flush()
            line.tell(answer)


# -- one attempt --------------------------------------------------------------------------------------


def _execute(job: Job, told: Greeting, line: Line) -> Told:
    try:
        definition = _find(job, told)
    except BaseException as error:  # noqa: BLE001 - the top level of a module is user code
        return Unfound(f"{type(error).__name__}: {error}")
    if definition is None:
        return Unfound(f"there is no step of this name in {job.module}")
    _send_log(told, line)
    info = StepInfo(
        job.run_id, job.step_id, job.step, job.attempt, sink=line, keys=job.keys, keys_of=job.keys_of
    )
    if job.detail is not None and job.heard_at is not None:
        info.detail = _DETAIL.decode(job.detail)
        info.last_heartbeat = datetime.fromtimestamp(job.heard_at, UTC)
    if job.limits:
        info.permission = Permission(line, job.limits)
    outlay = info.outlay = Outlay()
    outlay.close(lambda _, used: line.tell(Spent(used)))  # whatever comes is told at once
    outlet = Outlet(line, job.max_payload)
    tokens = current_step.set(info), current_outlet.set(lambda: outlet)
    try:
        if job.begin_by is not None and time.time() > job.begin_by:
            return Late()
        line.tell(Begun())
        args, kwargs = definition.arguments.decode(job.input)
        own = contextvars.copy_context()  # what stands in a trace is over with the attempt
        if job.trace is not None:
            own.run(enter_alone, job.trace)
        value = own.run(definition.run, *args, **kwargs)
        if definition.returns_response is not False:
            notice(info, value)
        data, _ = definition.result.record(value)
        check_size(data, job.max_payload, f"result of step {definition.name}")
        return Returned(data)
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is its outcome
        return _raised(error)
    finally:
        current_step.reset(tokens[0])
        current_outlet.reset(tokens[1])


def _find(job: Job, told: Greeting) -> StepDefinition | None:
    import_code(job.module, told)
    return step_named(job.step)


def _send_log(told: Greeting, line: Line) -> None:
    """Whatever modules have set up here: records go to the engine's process, which has set up its own."""
    root = logging.getLogger()
    if len(root.handlers) == 1 and isinstance(root.handlers[0], LogSender):
        return
    for logger in list(root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    root.handlers[:] = [LogSender(line)]
    for name, level in told.levels.items():
        logging.getLogger(name or None).setLevel(level)


def _raised(error: BaseException) -> Raised:
    status, asked = refusals.told(error, time.time())
    kinds = [_as_in_the_engine(type_name(kind)) for kind in bases(type(error))]
    return Raised(_renamed(failure_of(error)), kinds, status, asked)


def _as_in_the_engine(name: str) -> str:
    return f"__main__.{name.removeprefix(SCRIPT + '.')}" if name.startswith(SCRIPT + ".") else name


def _renamed(failure: Failure) -> Failure:
    """The failure as if the script's classes were `__main__`'s here, too."""
    return msgspec.structs.replace(
        failure,
        type=_as_in_the_engine(failure.type),
        traceback=failure.traceback.replace(f"{SCRIPT}.", "__main__."),
        cause=None if failure.cause is None else _renamed(failure.cause),
        members=tuple(_renamed(member) for member in failure.members),
    )
