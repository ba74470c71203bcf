"""Data alone makes nothing happen: any failure gives an exception just as recorded, or nothing at all."""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import PLAIN, TEXT
from troubles import (
    Declined,
    WithGetattribute,
    WithInit,
    WithNew,
    WithProperty,
    WithSetattr,
)

from perdure.codec.failures import exception_of, step_exception
from perdure.core.events import Failure


class Trap(types.ModuleType):
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("a module's attribute was asked for")


class TrapDict:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise AssertionError("__dict__ was asked for")

    @property
    def __class__(self) -> Any:
        raise AssertionError("__class__ was asked for")


@pytest.fixture
def traps(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: pytest.fail("a module's __getattr__ ran")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "trap", Trap("trap"))
    monkeypatch.setitem(sys.modules, "trap_object", TrapDict())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "lazy", lazy)


NAMES = [
    *("os.system", "os.error", "sys", "sys.modules", "antigravity.X", "", ".", "..", "x.<locals>.Y"),
    *("builtins.exec", "builtins.object", "builtins.type", "builtins.Exception.__class__"),
    *("builtins.SystemExit", "builtins.KeyboardInterrupt", "builtins.StopIteration"),
    *("builtins.Exception.__init__", "asyncio.exceptions.CancelledError"),
    *("perdure.nothing.X", "perdure.errors", "perdure.errors.nothing", "trap.X", "trap_object.X", "lazy.X"),
    *(f"troubles.{name}" for name in ("WithNew", "WithSlots", "WithMeta", "Meta", "Any", "Outer")),
]

_plain_json = PLAIN.map(msgspec.json.encode) | st.binary(max_size=10)


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_ordinary_exception_gives_nothing(name: str):
    calls = WithNew.calls
    modules = set(sys.modules)
    for args in (b"[]", b'["echo"]', b"[1,2]"):
        for state in (None, b'{"__class__":1}', b'{"code":1}'):
            assert exception_of(Failure(type=name, message="", args=args, state=state)) is None
    assert WithNew.calls == calls
    assert set(sys.modules) == modules


@pytest.mark.parametrize(
    ("cls", "state"),
    [
        (WithProperty, b'{"code":1}'),
        (Declined, b'{"__class__":1}'),
        (Declined, b'{"__dict__":{}}'),
        (Declined, b'{"__traceback__":null}'),
        (Declined, b'{"args":[]}'),
        (Declined, b'{"with_traceback":1}'),
        (OSError, b'{"errno":"x","__init__":1}'),
    ],
)
def test_attributes_that_mean_something_to_the_class_are_not_set(cls: type[Exception], state: bytes):
    name = f"{cls.__module__}.{cls.__qualname__}"
    assert exception_of(Failure(type=name, message="x", args=b'["x"]', state=state)) is None


def test_no_init_or_setattr_of_the_class_runs():
    for cls in (WithInit, WithSetattr, WithGetattribute):
        name = f"troubles.{cls.__qualname__}"
        failure = Failure(type=name, message="x", args=b'["x"]', state=b'{"a":1}', notes=("n",))
        failure = msgspec.structs.replace(failure, cause=Failure("builtins.ValueError", "", b"[]"))
        found = exception_of(failure)
        assert type(found) is cls


@given(
    st.builds(
        Failure,
        type=st.sampled_from(
            [
                *NAMES,
                *(f"builtins.{cls.__name__}" for cls in vars(builtins).values() if isinstance(cls, type)),
            ]
        )
        | TEXT,
        message=TEXT,
        args=st.none() | _plain_json,
        state=st.none() | _plain_json,
        notes=st.lists(TEXT, max_size=2).map(tuple),
        members=st.lists(st.builds(Failure, type=TEXT, message=TEXT), max_size=2).map(tuple),
    )
)
def test_any_failure_gives_an_exception_as_recorded_or_nothing(failure: Failure):
    found = exception_of(failure)
    if found is not None:
        assert f"{type(found).__module__}.{type(found).__qualname__}" == failure.type
        assert str(found) == failure.message
    assert isinstance(step_exception(failure, step="s", attempts=1), Exception)
