"""An exception becomes data and comes back the same."""

from __future__ import annotations

import asyncio
import builtins
import errno
import json
import sys
import traceback
import types
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import PLAIN, TEXT
from troubles import (
    Abstract,
    Declined,
    Described,
    DiskError,
    Missing,
    Outer,
    Problems,
    WithGetattribute,
    WithMeta,
    WithNew,
    WithProperty,
    WithReduce,
    WithSetattr,
    WithSlots,
    Wordless,
)

from perdure import errors
from perdure.codec.failures import exception_of, failure_of, failure_record, step_exception
from perdure.codec.values import ValueCodec
from perdure.core.events import Failure
from perdure.errors import StepFailed


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def without_traces(failure: Failure) -> Failure:
    return msgspec.structs.replace(
        failure,
        traceback="",
        cause=without_traces(failure.cause) if failure.cause else None,
        members=tuple(map(without_traces, failure.members)),
    )


# -- what comes back ------------------------------------------------------------------------------------

_ALL = [cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, Exception)]
_SIMPLE = [
    cls
    for cls in _ALL
    if not issubclass(
        cls, StopIteration | StopAsyncIteration | SyntaxError | UnicodeError | OSError | ExceptionGroup
    )
]
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
_attributes = st.dictionaries(st.sampled_from(["code", "card", "kind", "detail"]), PLAIN, max_size=3)


@st.composite
def exceptions(draw: st.DrawFn, depth: int = 3) -> Exception:
    form = draw(st.sampled_from(["simple", "simple", "os", "own", "group" if depth else "simple"]))
    if form == "group":
        members = draw(st.lists(exceptions(depth=depth - 1), min_size=1, max_size=3))
        return draw(st.sampled_from([ExceptionGroup, Problems]))(draw(TEXT), members)
    if form == "os":
        number = draw(st.sampled_from([errno.ENOENT, errno.EACCES, errno.ENOSPC, 9999]))
        names = draw(st.sampled_from([(), ("a",), ("a", None, "b")]))
        error: Exception = OSError(number, draw(TEXT), *names)
    elif form == "own":
        error = draw(
            st.sampled_from([Declined(7), DiskError("/x"), Missing("k"), Outer.Inner(1), Abstract()])
        )
    else:
        error = draw(st.sampled_from([*_SIMPLE, Described]))(*draw(st.lists(_scalars, max_size=3)))
    for name, value in draw(_attributes).items():
        setattr(error, name, value)
    for note in draw(st.lists(TEXT, max_size=2)):
        error.add_note(note)
    return error


@given(exceptions(), st.none() | exceptions())
def test_an_exception_with_plain_data_comes_back_the_same(error: Exception, cause: Exception | None):
    error.__cause__ = cause
    rebuilt = exception_of(failure_of(raised(error)))
    assert rebuilt is not None
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)
    assert getattr(rebuilt, "__notes__", []) == getattr(error, "__notes__", [])
    assert repr(rebuilt.__cause__) == repr(cause)
    if not isinstance(error, ExceptionGroup):
        assert rebuilt.args == error.args
        assert vars(rebuilt) == vars(error)


@given(exceptions(), st.none() | exceptions())
def test_a_rebuilt_exception_describes_itself_as_the_original_did(error: Exception, cause: Exception | None):
    error.__cause__ = cause
    failure = failure_of(error)
    rebuilt = exception_of(failure)
    assert rebuilt is not None
    assert without_traces(failure_of(rebuilt)) == without_traces(failure)


@given(st.sampled_from(_ALL), st.lists(PLAIN | st.binary() | st.just(b""), max_size=5))
def test_what_comes_back_is_stable_for_any_builtin(cls: type[Exception], args: list[Any]):
    try:
        error = cls(*args)
    except (TypeError, ValueError):
        return
    live = step_exception(failure_of(error), step="app.fetch#1", attempts=1)
    again = step_exception(failure_of(live), step="app.fetch#1", attempts=1)
    assert type(again) is type(live)
    assert again.args == live.args
    assert str(again) == str(live)


def test_the_os_error_family_keeps_its_fields():
    try:
        open("/nowhere/at/all")
    except OSError as error:
        rebuilt = exception_of(failure_of(error))
    assert isinstance(rebuilt, FileNotFoundError)
    assert str(rebuilt) == "[Errno 2] No such file or directory: '/nowhere/at/all'"
    assert (rebuilt.errno, rebuilt.filename) == (errno.ENOENT, "/nowhere/at/all")
    full = exception_of(failure_of(DiskError("/x")))
    assert isinstance(full, DiskError)
    assert (full.errno, full.strerror, full.filename, full.path) == (errno.ENOSPC, "disk full", "/x", "/x")


def test_builtins_with_fields_of_their_own():
    missing = exception_of(failure_of(ModuleNotFoundError("no x", name="x")))
    assert isinstance(missing, ModuleNotFoundError)
    assert missing.name == "x"
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    rebuilt = exception_of(failure_of(caught.value))
    assert isinstance(rebuilt, json.JSONDecodeError)
    assert (rebuilt.pos, rebuilt.doc) == (1, "{")


def test_attributes_that_are_not_plain_are_left_behind():
    rebuilt = exception_of(failure_of(Declined(51, card=object())))
    assert isinstance(rebuilt, Declined)
    assert vars(rebuilt) == {"code": 51}


@pytest.mark.parametrize(
    "error",
    [
        ValueError(b"bytes"),
        ValueError(object()),
        ValueError(float("nan")),
        ValueError("\ud800"),
        ValueError((1, 2)),  # its text would change with the tuple
        StopIteration(1),
        StopAsyncIteration(),
        KeyboardInterrupt(),
        SystemExit(1),
        asyncio.CancelledError(),
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
        ExceptionGroup("g", [ValueError(b"x")]),
        WithNew("x"),
        WithSlots("x"),
        Wordless(),
        type("Local", (Exception,), {})("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_others_are_shown_as_a_failed_step(error: BaseException):
    failure = failure_of(error)
    assert exception_of(failure) is None
    seen = step_exception(failure, step="app.fetch#1", attempts=3)
    assert isinstance(seen, StepFailed)
    assert (seen.step, seen.attempts, seen.type) == ("app.fetch#1", 3, failure.type)
    assert f"app.fetch#1 failed after 3 attempts with {failure.type}: {failure.message}" in str(seen)


def test_a_class_local_to_a_function_is_not_rebuilt():
    class Local(Exception):
        pass

    failure = failure_of(Local("x"))
    assert "<locals>" in failure.type
    assert exception_of(failure) is None


def test_a_class_of_the_main_module_is_found(monkeypatch: pytest.MonkeyPatch):
    main = types.ModuleType("__main__")
    cls = type("Mine", (Exception,), {"__module__": "__main__", "__qualname__": "Mine"})
    main.Mine = cls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert type(exception_of(failure_of(cls("x")))) is cls


# -- what is recorded -----------------------------------------------------------------------------------


def test_tracebacks_end_with_the_error_and_leave_perdure_out():
    def fails() -> None:
        ValueCodec[int](int, "result of step app.fetch").record("x")  # type: ignore[arg-type]

    with pytest.raises(errors.NotSerializableError) as caught:
        fails()
    text = failure_of(caught.value).traceback
    assert text.startswith("Traceback (most recent call last):")
    assert "in fails" in text
    assert "perdure/codec" not in text
    assert text.endswith("Give what the type says, or correct the annotation.\n")
    assert "in fails" not in failure_of(caught.value, skip_files=[__file__]).traceback


def test_long_texts_keep_their_useful_end():
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("at the bottom")
        deep(n - 1)

    with pytest.raises(ValueError, match="bottom") as caught:
        deep(500)
    text = failure_of(caught.value).traceback
    assert len(text) < 9_000
    assert text.endswith("ValueError: at the bottom\n")
    long = ValueError("x" * 40_000)
    assert len(failure_of(long).message) < 17_000
    assert exception_of(failure_of(long)).args == long.args  # type: ignore[union-attr]
    assert failure_of(ValueError("x" * 100_000)).args is None


def test_causes_and_contexts_are_followed_a_while():
    error: Exception = ValueError(0)
    for n in range(1, 30):
        outer = ValueError(n)
        outer.__cause__ = error
        error = outer
    depth, failure = 0, failure_of(error)
    while failure.cause is not None:
        depth, failure = depth + 1, failure.cause
    assert depth == 7
    with pytest.raises(KeyError) as caught:
        try:
            raise ValueError("first")
        except ValueError:
            raise KeyError("second")
    assert failure_of(caught.value).cause.message == "first"  # type: ignore[union-attr]
    caught.value.__suppress_context__ = True
    assert failure_of(caught.value).cause is None


def test_a_circle_of_causes_ends():
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    assert failure_of(one).cause.cause is None  # type: ignore[union-attr]


def test_recording_asks_nothing_of_the_class():
    for cls in (WithGetattribute, WithReduce, WithSetattr, WithProperty):
        assert failure_of(cls("x")).type == f"troubles.{cls.__qualname__}"
    assert failure_of(Exception.__new__(WithMeta)).type == "troubles.WithMeta"
    assert failure_of(Wordless()).message == "<no text: __str__ raised builtins.RuntimeError>"


# -- the record behind the exception --------------------------------------------------------------------


def test_the_record_is_found_behind_the_exception():
    failure = failure_of(raised(Declined(51)))
    seen = step_exception(failure, step="app.pay#1", attempts=2)
    record = failure_record(seen)
    assert record is not None
    assert (record.step, record.attempts, record.failure) == ("app.pay#1", 2, failure)
    assert failure_record(ValueError()) is None
    # It is no attribute of the exception's own, and isn't recorded as one.
    assert failure_of(seen).state == failure.state


def test_a_step_error_recorded_again_keeps_the_steps_traceback():
    seen = step_exception(failure_of(raised(Declined(51))), step="app.pay#1", attempts=2)

    def workflow() -> None:
        raise seen

    with pytest.raises(Declined) as caught:
        workflow()
    text = failure_of(caught.value).traceback
    assert "in raised" in text
    assert "It was raised by app.pay#1, and then in the workflow:" in text
    assert text.index("in raised") < text.index("in workflow")


def test_a_failed_step_keeps_the_cause_that_can_be_rebuilt():
    error = ValueError(object())
    error.__cause__ = Declined(51)
    seen = step_exception(failure_of(error), step="app.pay#1", attempts=1)
    assert isinstance(seen, StepFailed)
    assert isinstance(seen.__cause__, Declined)
    assert "after 1 attempt with builtins.ValueError" in "".join(traceback.format_exception(seen))
