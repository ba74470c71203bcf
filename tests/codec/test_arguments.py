"""The input of a call: checked as Python would, the same bytes everywhere, decoded by annotation."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import PLAIN, TEXT, Color, Found, Item, Point, annotated_values

from perdure.codec.arguments import Arguments
from perdure.errors import NotSerializableError, UndecodableError


def fetch(url: str, retries: int = 3) -> str: ...


def everything(
    first: Point, /, second: int = 2, *rest: dt.date, key: str | None = None, **more: set[int]
) -> None: ...


def positional_only(a: int, b: int = 1, /, **more: int) -> None: ...


def keyword_only(*, a: int, b: int = 1) -> None: ...


def unannotated(a, b=None, *rest, **more): ...  # type: ignore[no-untyped-def]


def nothing() -> None: ...


FUNCTIONS = [fetch, everything, positional_only, keyword_only, unannotated, nothing]


def arguments(function: Callable[..., Any] = fetch) -> Arguments:
    return Arguments(function, f"step app.{function.__name__}")


# -- checking -------------------------------------------------------------------------------------------


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.just(0), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "url", "retries", "first", "second", "key", "x"]), st.just(0)),
)
def test_a_wrong_call_raises_what_the_call_itself_would(
    function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
):
    assert complaint(lambda: arguments(function).fits(*args, **kwargs)) == complaint(
        lambda: function(*args, **kwargs)
    )


def complaint(call: Callable[[], Any]) -> str | None:
    try:
        call()
    except TypeError as error:
        return str(error)
    return None


def test_checking_never_runs_the_function():
    def explode(a: int) -> None:
        raise AssertionError("it ran")

    arguments(explode).fits(1)


# -- round trips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "data"),
    [
        (fetch, ("x",), {}, b'[["x"],{}]'),
        (fetch, (), {"retries": 2, "url": "x"}, b'[["x",2],{}]'),
        (everything, (Point(1),), {"key": "k"}, b'[[{"x":1,"y":null}],{"key":"k"}]'),
        (
            everything,
            (Point(1), 5, dt.date(2020, 1, 1)),
            {"odd": {3, 1, 20}},
            b'[[{"x":1,"y":null},5,"2020-01-01"],{"odd":[1,20,3]}]',
        ),
        (positional_only, (1,), {"a": 2, "b": 3}, b'[[1],{"a":2,"b":3}]'),
        (keyword_only, (), {"b": 2, "a": 1}, b'[[],{"a":1,"b":2}]'),
        (unannotated, (1, [None]), {"z": {"k": "v"}}, b'[[1,[null]],{"z":{"k":"v"}}]'),
        (nothing, (), {}, b"[[],{}]"),
    ],
)
def test_known_bytes(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes
):
    carried = arguments(function)
    carried.fits(*args, **kwargs)
    assert carried.encode(args, kwargs) == data
    again_args, again_kwargs = carried.decode(data)
    assert carried.encode(again_args, again_kwargs) == data
    assert carried.record(args, kwargs) == (data, (again_args, again_kwargs))


@given(annotated_values(), annotated_values())
def test_arguments_come_back_as_they_were(one: tuple[Any, Any], other: tuple[Any, Any]):
    def function(a, *rest, b, **more): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"a": one[0], "rest": one[0], "b": other[0], "more": other[0]}
    args, kwargs = (one[1], one[1]), {"b": other[1], "c": other[1]}
    data, live = arguments(function).record(args, kwargs)
    assert live == (args, kwargs)
    assert repr(arguments(function).decode(data)) == repr(live)


@given(st.binary(max_size=30), st.sampled_from(FUNCTIONS))
def test_damaged_bytes_are_undecodable_and_nothing_else(data: bytes, function: Callable[..., Any]):
    with pytest.raises(UndecodableError):
        arguments(function).decode(data)
        raise UndecodableError  # random bytes may happen to be right


@given(PLAIN, st.sampled_from(FUNCTIONS))
def test_recorded_input_of_another_shape_is_undecodable_and_nothing_else(
    value: Any, function: Callable[..., Any]
):
    with pytest.raises(UndecodableError):
        arguments(function).decode(msgspec.json.encode([[value], {"more": value}]))
        raise UndecodableError


# -- one input, one fingerprint -------------------------------------------------------------------------


@given(st.dictionaries(TEXT, PLAIN, max_size=4))
def test_the_order_of_keys_makes_no_difference(value: dict[str, Any]):
    turned = dict(reversed(value.items()))
    carried = arguments(unannotated)
    assert carried.encode((value,), {}) == carried.encode((turned,), {})
    assert carried.encode((), value) == carried.encode((), turned)


@given(PLAIN, PLAIN)
def test_position_or_keyword_makes_no_difference(a: Any, b: Any):
    carried = arguments(unannotated)
    assert (
        carried.encode((a, b), {}) == carried.encode((a,), {"b": b}) == carried.encode((), {"b": b, "a": a})
    )


@given(PLAIN, PLAIN)
def test_different_input_gives_different_bytes(a: Any, b: Any):
    carried = arguments(unannotated)
    same = msgspec.json.encode(a, order="deterministic") == msgspec.json.encode(b, order="deterministic")
    assert (carried.encode((a,), {}) == carried.encode((b,), {})) is same


class Bag(msgspec.Struct, tag=True, rename="camel"):
    many_things: set[Any]


@dataclasses.dataclass(frozen=True)
class Holder:
    groups: frozenset[frozenset[str]]


class Shelf(pydantic.BaseModel):
    items: list[Item]
    names: dict[str, set[str]]
    nested: set[tuple[str, int]]


class Shelves(pydantic.RootModel[list[Shelf]]):
    pass


def unordered() -> list[Any]:
    """Values whose items have an order of their own in each process."""
    words = [f"word-{n}" for n in range(20)]
    item = Item(title="t", labels=set(words))
    shelf = Shelf(items=[item], names={"k": set(words)}, nested={(word, 1) for word in words})
    return [
        set(words),
        {1, "a", None, 2.5, (1, "b"), frozenset(words)},
        {frozenset({word, "x"}) for word in words},
        {Color.RED, Color.BLUE},
        {Point(n) for n in range(20)},
        {Found(word, frozenset(words)) for word in words},
        {word: set(words) for word in set(words)},
        {Color.RED: set(words), Color.BLUE: 1},
        {7: 1, 2: set(words)},
        [Bag(set(words)), Holder(frozenset({frozenset(words)}))],
        item,
        [shelf, {"deep": (shelf,)}],
        Shelves([shelf]),
    ]


def show_unordered() -> None:
    for value in unordered():
        print(arguments(unannotated).encode((value,), {"more": value}).decode())


def test_bytes_are_the_same_in_every_process():
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r}); import test_arguments as t; t.show_unordered()"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == len(unordered())


def test_ordering_leaves_the_values_alone():
    bag = Bag({frozenset({1, 2}), frozenset({3})})
    data = arguments(unannotated).encode((bag,), {})
    assert data == b'[[{"type":"Bag","manyThings":[[1,2],[3]]}],{}]'
    assert bag == Bag({frozenset({1, 2}), frozenset({3})})


# -- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((1,), {}, r"argument 'url' of step app.fetch is declared as `str`, and int 1 doesn't fit"),
        (("x", float("nan")), {}, r"argument 'retries' of step app.fetch can't be recorded: at `\$`, nan"),
        (
            ("x",),
            {"retries": [1j]},
            r"argument 'retries' of step app.fetch.*at `\$\[0\]`, complex has no JSON",
        ),
        (("\ud800",), {}, r"argument 'url' of step app.fetch.*surrogate"),
    ],
)
def test_a_refusal_names_the_argument(args: tuple[Any, ...], kwargs: dict[str, Any], told: str):
    with pytest.raises(NotSerializableError, match=told):
        arguments().record(args, kwargs)


def test_a_refusal_names_the_collecting_parameter():
    with pytest.raises(
        NotSerializableError, match=r"argument 'rest' of step app.everything.*object has no JSON"
    ):
        arguments(everything).encode((Point(1), 2, object()), {})
    with pytest.raises(NotSerializableError, match=r"argument 'more' of step app.everything is declared as"):
        arguments(everything).record((Point(1),), {"odd": {1.5}})


def test_keys_that_are_one_text_in_json_are_refused():
    with pytest.raises(NotSerializableError, match="same text"):
        arguments(unannotated).encode(({1: "a", "1": "b"},), {})


def test_a_circle_is_refused():
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(NotSerializableError, match="contains itself"):
        arguments(unannotated).encode((circle,), {})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[[],{}]", r"missing 1 required positional argument: 'url'.*signature has changed"),
        (b'[["x",1,2],{}]', r"it has 3 positional arguments"),
        (b'[["x"],{"depth":1}]', r"it has an argument 'depth'.*Give new parameters a default"),
        (b'[["x"],{"url":"y"}]', r"multiple values for argument 'url'"),
        (b"[[1],{}]", r"argument 'url' of step app.fetch can't be read as `str`"),
        (b"[[]]", r"damaged"),
    ],
)
def test_input_recorded_for_another_signature_is_undecodable(data: bytes, told: str):
    with pytest.raises(UndecodableError, match=told):
        arguments().decode(data)


# -- annotations ----------------------------------------------------------------------------------------

Later = int
P = typing.ParamSpec("P")


def test_annotations_are_resolved_at_first_use():
    def function(a: NotYet, b: Later) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    names: dict[str, Any] = {}
    carried = Arguments(function, "step app.function", names=names)
    assert carried.encode((1, 2), {}) == b"[[1,2],{}]"
    with pytest.raises(UndecodableError, match=r"argument 'a' of step app.function.*`NotYet`"):
        carried.decode(b"[[1,2],{}]")
    names["NotYet"] = float
    assert carried.decode(b"[[1,2],{}]") == ((1.0, 2), {})


def test_a_parameter_specification_takes_plain_data():
    def function(*args: P.args, **kwargs: P.kwargs) -> None: ...

    assert arguments(function).record((1, "a"), {"b": [None]})[1] == ((1, "a"), {"b": [None]})
