"""From how a run ended to what its caller sees: a value, or one of the RunError family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.codec.failures import exception_of
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import RunCancelled, RunError, RunFailed, RunTerminated, RunTimedOut, StoreError


def outcome(run_id: str, event: ev.Event, decode: Callable[[bytes], Any]) -> Any:
    """The result in a run's final event.

    Raises:
        RunFailed, RunTimedOut, RunCancelled, RunTerminated: it ended without one.
    """
    match event:
        case ev.RunCompleted():
            return decode(event.result)
        case ev.RunFailed():
            raise _failed(run_id, event.failure, timed_out=event.timed_out)
        case ev.RunCancelled():
            raise RunCancelled(_because(f"run {run_id!r} was cancelled", event.reason), run_id=run_id)
        case ev.RunTerminated():
            raise RunTerminated(_because(f"run {run_id!r} was terminated", event.reason), run_id=run_id)
        case _:
            msg = f"run {run_id!r} is marked as ended, but its last event is {type(event).__name__}: see `perdure show`"
            raise StoreError(msg)


def child_error(event: ev.ChildEnded, run_id: str) -> RunError:
    """What a parent sees of a child that ended without a result."""
    if event.failure is not None:
        timed_out = event.failure.type == f"{RunTimedOut.__module__}.{RunTimedOut.__qualname__}"
        return _failed(run_id, event.failure, timed_out=timed_out)
    if event.status == Status.TERMINATED:
        return RunTerminated(f"child run {run_id!r} was terminated", run_id=run_id)
    return RunCancelled(f"child run {run_id!r} was cancelled", run_id=run_id)


def _failed(run_id: str, failure: ev.Failure, *, timed_out: bool) -> RunFailed:
    if timed_out:
        return RunTimedOut(failure.message, run_id=run_id)
    error = RunFailed(f"run {run_id!r} failed: {failure.type}: {failure.message}", run_id=run_id)
    error.__cause__ = exception_of(failure)
    if failure.traceback:
        error.add_note(f"Where it was raised in the run:\n{failure.traceback}")
    return error


def _because(text: str, reason: str | None) -> str:
    return f"{text}: {reason}" if reason else text
