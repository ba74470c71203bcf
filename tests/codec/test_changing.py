"""Parts of a recorded input are exchanged, and what results is what the call itself would have been written as."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.arguments import Arguments
from perdure.codec.changing import Misplaced
from perdure.errors import UndecodableError


def ask(prompt: str, model: str = "big", *, tries: int = 1, **more: Any) -> None: ...


def request(request: dict[str, Any]) -> None: ...


def strict(a: int, /, b: int = 0, c: int = 0) -> None: ...


def changed(function: Any, args: Any, kwargs: Any, parts: dict[str, Any], text: Any = ()) -> Any:
    arguments = Arguments(function, "step f")
    data = arguments.encode(args, kwargs)
    encoded = [(path, json.dumps(value).encode()) for path, value in parts.items()]
    return arguments.change(data, encoded, text)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "parts", "wanted"),
    [
        (ask, ("x",), {}, {"prompt": "y"}, (("y",), {})),
        (ask, ("x",), {}, {"model": "small"}, (("x", "small"), {})),
        (ask, ("x",), {}, {"tries": 3}, (("x",), {"tries": 3})),
        (
            ask,
            ("x",),
            {"tries": 2, "style": {"a": 1}},
            {"style.a": 2},
            (("x",), {"tries": 2, "style": {"a": 2}}),
        ),
        (ask, ("x",), {}, {"colour": "red"}, (("x",), {"colour": "red"})),
        (strict, (1,), {}, {"c": 2}, ((1,), {"c": 2})),
        (strict, (1,), {}, {"b": 1, "c": 2}, ((1, 1, 2), {})),
        (request, ({"m": [{"c": 1}, {"c": 2}]},), {}, {"m.1.c": 3}, (({"m": [{"c": 1}, {"c": 3}]},), {})),
        (request, ({"m": [{"c": 1}, {"c": 2}]},), {}, {"m.*.c": 3}, (({"m": [{"c": 3}, {"c": 3}]},), {})),
        (request, ({"m": [1, 2]},), {}, {"request.m.-1": 3}, (({"m": [1, 3]},), {})),
        (request, ({"m": 1},), {}, {"new": None}, (({"m": 1, "new": None},), {})),
    ],
)
def test_parts_are_put_where_their_paths_lead(
    function: Any, args: Any, kwargs: Any, parts: dict[str, Any], wanted: Any
) -> None:
    found = changed(function, args, kwargs, parts)
    assert found == Arguments(function, "step f").encode(*wanted)


@pytest.mark.parametrize(
    ("function", "args", "parts", "told"),
    [
        (request, ({"m": [1]},), {"m.5": 1}, "'5' is no place among 1 items"),
        (request, ({"m": [1]},), {"m.x": 1}, "'x' is no place"),
        (request, ({"m": [1]},), {"n.x": 1}, "there is no 'n' among 'm'"),
        (request, ({"m": 1},), {"m.x": 1}, "before 'x' there is 1, which has no parts"),
        (strict, (1,), {"d": 1}, "no argument 'd': it is called with a"),
        (ask, ("x",), {"tries.x": 1}, "the argument 'tries' isn't given"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(
    function: Any, args: Any, parts: dict[str, Any], told: str
) -> None:
    with pytest.raises(Misplaced, match=told):
        changed(function, args, {}, parts)


def test_what_the_function_cant_take_is_refused() -> None:
    with pytest.raises(UndecodableError):
        changed(ask, ("x",), {}, {"prompt": 7})


def test_texts_are_exchanged_everywhere_but_in_keys() -> None:
    found = changed(request, ({"red": ["a red hen", 1, {"x": "red"}]},), {}, {}, [("red", "blue")])
    assert json.loads(found) == [[{"red": ["a blue hen", 1, {"x": "blue"}]}], {}]


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), _json, max_size=4))
def test_a_change_that_changes_nothing_leaves_the_very_bytes(value: dict[str, Any]) -> None:
    arguments = Arguments(request, "step f")
    data = arguments.encode((value,), {})
    assert arguments.change(data, [], [("\0never", "x")]) is data
    assert arguments.change(data, [("request", json.dumps(value).encode())], []) is data
