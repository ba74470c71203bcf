"""Exceptions as data: recording one, and the exception that workflow code gets for a failed step.

A `Failure` holds what can be said about an exception without its class: names, texts, and those of its
arguments and attributes that are plain data. The way back, to an exception of the original class, is
rebuild.py. Live code gets the rebuilt exception as well, never the one that was raised, so that live and
replay can't differ.

Recording never fails, whatever the exception's class does: what can't be read of it is left out. So are the values of
secrets, and what an engine's `redact=` takes out (redaction.py): what is recorded stays for years.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, NamedTuple

import msgspec

from perdure.codec.bare import attributes, clean, construction, getset, group_of, message, type_name
from perdure.codec.explain import non_finite, not_plain
from perdure.codec.foreign import encode_json
from perdure.codec.kinds import is_sequence
from perdure.codec.rebuild import exception_of
from perdure.codec.redaction import active, mask, mask_json
from perdure.core.events import Failure
from perdure.errors import StepFailed

__all__ = [
    "FailureRecord",
    "exception_of",
    "failure_of",
    "failure_record",
    "masked_failure",
    "speaking_for",
    "step_exception",
]

#: How far a chain of causes is followed, and how many members of a group.
_MAX_DEPTH: Final = 8
_MAX_MEMBERS: Final = 32

_MAX_TRACEBACK: Final = 8_192
_MAX_FRAMES: Final = 40
_MAX_DATA: Final = 65_536
_MAX_NOTES: Final = 16

_OWN_FILES: Final = str(Path(__file__).parent.parent)

#: The attribute of a rebuilt exception that leads to its record.
_RECORD: Final = "__perdure_failure__"

#: The attribute of an exception that stands for one of another process.
_TOLD: Final = "__perdure_told__"


class FailureRecord(NamedTuple):
    """What is known about the failure of a step, behind the exception that workflow code sees."""

    step: str  #: the step's id within its run
    attempts: int  #: how many attempts were made
    failure: Failure  #: the last attempt's exception, with its traceback as text


def failure_of(error: BaseException, *, skip_files: Iterable[str] = ()) -> Failure:
    """Describe an exception as data.

    Args:
        error: the exception, as it was caught.
        skip_files: beginnings of the names of files whose frames are left out of the traceback, as those of
            Perdure itself always are.

    Example:
        >>> failure_of(KeyError("k")).type
        'builtins.KeyError'
    """
    told = attributes(error).get(_TOLD)
    if isinstance(told, Failure):
        return masked_failure(told) if active() else told
    return _describe(error, (_OWN_FILES, *skip_files), frozenset())


def masked_failure(failure: Failure) -> Failure:
    """A failure that was recorded elsewhere, without what this process masks."""
    return msgspec.structs.replace(
        failure,
        message=mask(failure.message),
        args=None if failure.args is None else mask_json(failure.args),
        state=None if failure.state is None else mask_json(failure.state),
        traceback=mask(failure.traceback),
        notes=tuple(map(mask, failure.notes)),
        cause=None if failure.cause is None else masked_failure(failure.cause),
        members=tuple(map(masked_failure, failure.members)),
    )


def speaking_for(error: BaseException, failure: Failure) -> BaseException:
    """Let an exception stand for one of another process: `failure_of` then returns what that process said."""
    attributes(error)[_TOLD] = failure
    return error


def step_exception(failure: Failure, *, step: str, attempts: int) -> Exception:
    """Return the exception that workflow code gets for a step that failed for good.

    It is one of the original class where that can be rebuilt here, else a `StepFailed` that says what it was.
    `failure_record` finds the failure behind it.

    Args:
        failure: what was recorded of the last attempt.
        step: the step's id within its run.
        attempts: how many attempts were made.

    Example:
        >>> step_exception(failure_of(KeyError("k")), step="app.fetch#1", attempts=3)
        KeyError('k')
    """
    error = exception_of(failure)
    if error is None:
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        error = StepFailed(
            f"Step {step} failed after {times} with {failure.type}: {failure.message}\n"
            "It can't be rebuilt as that here: the class isn't loaded, is local to a function or makes its "
            "instances in its own way, or its arguments aren't plain data. Catch StepFailed and look at its "
            "`type`, or let the step raise an exception of a module-level class with plain arguments.",
            step=step,
            type=failure.type,
            attempts=attempts,
        )
        error.__cause__ = exception_of(failure.cause) if failure.cause else None
    attributes(error)[_RECORD] = FailureRecord(step, attempts, failure)
    return error


def failure_record(error: BaseException) -> FailureRecord | None:
    """Return what is known about the failed step behind an exception, None if no step is behind it.

    Example:
        >>> failure_record(step_exception(failure_of(KeyError("k")), step="app.fetch#1", attempts=3)).attempts
        3
    """
    record = attributes(error).get(_RECORD)
    return record if isinstance(record, FailureRecord) else None


def _describe(error: BaseException, skip: tuple[str, ...], above: frozenset[int]) -> Failure:
    above |= {id(error)}
    arguments, hidden = construction(error)
    state = {
        name: value
        for name, value in (hidden | attributes(error)).items()
        if _is_plain_attribute(name, value)
    }
    cause, (_, members) = _cause(error), group_of(error) or ("", ())
    if len(above) >= _MAX_DEPTH:
        cause, members = None, ()
    return Failure(
        type=type_name(type(error)),
        message=message(error),
        args=_plain(arguments),
        state=_plain(state) if state else None,
        traceback=_traceback(error, skip),
        notes=_notes(error),
        cause=_describe(cause, skip, above) if cause is not None and id(cause) not in above else None,
        members=tuple(_describe(member, skip, above) for member in members[:_MAX_MEMBERS]),
    )


def _is_plain_attribute(name: object, value: object) -> bool:
    return isinstance(name, str) and not name.startswith("__") and _plain(value) is not None


def _plain(value: object) -> bytes | None:
    """The JSON of plain data; None for anything else, and for more than should be kept."""
    try:
        if not_plain(value) or non_finite(value):
            return None
        data = mask_json(encode_json(value))
    # Circles, lone surrogates, integers of ten thousand digits.
    except (ValueError, RecursionError):
        return None
    return data if len(data) <= _MAX_DATA else None


def _notes(error: BaseException) -> tuple[str, ...]:
    notes: object = attributes(error).get("__notes__")
    if not is_sequence(notes):
        return ()
    return tuple(clean(mask(note)) for note in notes[:_MAX_NOTES] if isinstance(note, str))


def _cause(error: BaseException) -> BaseException | None:
    cause: BaseException | None = getset(error, "__cause__")
    context: BaseException | None = getset(error, "__context__")
    return cause if cause is not None or getset(error, "__suppress_context__") else context


def _traceback(error: BaseException, skip: tuple[str, ...]) -> str:
    """The end of the traceback as text, without the frames of Perdure itself."""
    frames: deque[tuple[FrameType, int]] = deque(maxlen=_MAX_FRAMES)
    trace: TracebackType | None = getset(error, "__traceback__")
    for frame, line in traceback.walk_tb(trace):
        if not frame.f_code.co_filename.startswith(skip):
            frames.append((frame, line))
    text = "".join(traceback.StackSummary.extract(iter(frames)).format())
    text = f"Traceback (most recent call last):\n{text}" if text else ""
    if (record := failure_record(error)) and record.failure.traceback:
        # The step's own traceback tells more than where its exception passed through the workflow.
        text = (
            f"{record.failure.traceback}\nIt was raised by {record.step}, and then in the workflow:\n\n{text}"
        )
    text += f"{type_name(type(error))}: {message(error)}\n"
    text = mask(text.encode("utf-8", "backslashreplace").decode())
    return text if len(text) <= _MAX_TRACEBACK else f"...{text[-_MAX_TRACEBACK:]}"
