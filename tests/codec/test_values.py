"""A value comes back as it was, or is refused in words that help."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import inspect
import math
import pathlib
import subprocess
import sys
import typing
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import (
    PLAIN,
    Box,
    Cat,
    Color,
    Found,
    Item,
    Level,
    Options,
    Pair,
    Point,
    T,
    Tone,
    Tree,
    annotated_values,
)

from perdure.codec.values import ValueCodec, check_size
from perdure.errors import NotSerializableError, PayloadTooLargeError, UndecodableError

WHERE = "result of step app.fetch"


def codec(annotation: Any = inspect.Parameter.empty, **options: Any) -> ValueCodec[Any]:
    return ValueCodec(annotation, WHERE, **options)


# -- round trips ----------------------------------------------------------------------------------------


@given(annotated_values())
def test_a_value_that_fits_comes_back_as_it_was(pair: tuple[Any, Any]):
    annotation, value = pair
    assert codec(annotation).record(value)[1] == value


@given(annotated_values())
def test_live_code_sees_what_replay_will_see(pair: tuple[Any, Any]):
    annotation, value = pair
    data, live = codec(annotation).record(value)
    replayed = codec(annotation).decode(data)
    assert replayed == live
    assert repr(replayed) == repr(live)
    assert codec(annotation).record(live)[1] == live


@given(annotated_values(), annotated_values())
def test_a_value_of_another_type_is_carried_whole_or_refused(one: tuple[Any, Any], other: tuple[Any, Any]):
    try:
        data, live = codec(one[0]).record(other[1])
    except NotSerializableError:
        return
    assert codec(one[0]).decode(data) == live


@given(annotated_values())
def test_without_an_annotation_only_plain_data_passes(pair: tuple[Any, Any]):
    value = pair[1]
    try:
        _, live = codec().record(value)
    except NotSerializableError:
        return
    assert as_lists(live) == as_lists(value)
    assert is_plain(value)


@given(PLAIN)
def test_plain_data_passes_without_an_annotation(value: Any):
    assert codec().record(value)[1] == value
    assert codec(Any).record(value)[1] == value


def as_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [as_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return value


def is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    return type(value) in (str, int, float, bool, type(None))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 3),
        (typing.Sequence[int], (1, 2)),
        (list[int], (1, 2)),
        (str, Tone.SOFT),
        (dict[str, Any], {Tone.SOFT: 1}),
        (int, 2**80),
        (Any, -(2**63) - 1),
        (decimal.Decimal, decimal.Decimal("NaN")),
        (set[frozenset[int]], {frozenset({1}), frozenset({2})}),
        (dict[pathlib.Path, Item], {pathlib.Path("a"): Item(title="t")}),
        (list[Item | None], [None, Item(labels={"a", "b"})]),
        (pathlib.PurePath, pathlib.PurePosixPath("a")),
        (None, None),
        (typing.NewType("UserId", int), 7),
        (typing.Annotated[int, msgspec.Meta(gt=3)], 4),
        (Box[Box[int]], Box(Box(1))),
    ],
)
def test_values_that_are_as_good_as_declared(annotation: Any, value: Any):
    _, live = codec(annotation).record(value)
    assert live == value or repr(live) == repr(value) or list(live) == list(value)


# -- refusals -------------------------------------------------------------------------------------------

_circle: list[Any] = []
_circle.append({"again": _circle})

_deep: list[Any] = []
for _ in range(100_000):
    _deep = [_deep]


@dataclasses.dataclass
class Loose:
    when: Any = None
    number: int = 0


@dataclasses.dataclass(eq=False)
class NoEq:
    number: float | None


@dataclasses.dataclass
class LyingEq:
    number: float | None

    def __eq__(self, other: object) -> bool:
        return True


@dataclasses.dataclass
class RaisingEq:
    number: float | None

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not today")


class Handle:
    pass


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


REFUSED: list[tuple[Any, Any, str]] = [
    # a value that doesn't fit what is declared
    (str, None, r"declared as `str`, and None doesn't fit: Expected `str`, got `null` - at `\$`"),
    (int, "7", r"declared as `int`, and str '7' doesn't fit"),
    (bool, 1, r"declared as `bool`, and int 1"),
    (None, 1, r"declared as `None`, and int 1"),
    (list[Point], [Point(1), Point("x")], r"Expected `int`, got `str` - at `\$\[1\].x`"),
    (typing.Annotated[int, msgspec.Meta(gt=3)], 3, r"Expected `int` >= 4"),
    (Item, Item.model_construct(title=7), r"title: Input should be a valid string"),
    (str, dt.date(2020, 1, 1), r"datetime.date\(2020, 1, 1\) would come back as str '2020-01-01'"),
    (Point, Loose(number=1), r"declared as `.*Point`"),
    (Loose, Tree("t"), r"Tree would come back as .*Loose"),
    (Options, {"retries": 1, "dep": True}, r"the key str 'dep' isn't part of the declared type"),
    (list[int], {1, 2}, r"set would come back as list"),
    (Secret, Secret(password=pydantic.SecretStr("x")), r"at `\$.password`, .* would come back as"),
    (float, 2**60 + 1, r"int 1152921504606846977 would come back as float"),
    # no JSON form for it
    (float | None, math.nan, r"at `\$`, nan has no JSON form: it would come back as None"),
    (list[float | None], [1.0, -math.inf], r"at `\$\[1\]`, -inf has no JSON form"),
    (float, math.inf, r"inf has no JSON form"),
    (Any, {"a": [math.nan]}, r"at `\$.a\[0\]`, nan"),
    (Point, Point(1, math.nan), r"at `\$.y`, nan"),
    (dict[str, NoEq], {"k": NoEq(math.nan)}, r"at `\$.k.number`, nan"),
    (LyingEq, LyingEq(math.nan), r"at `\$.number`, nan"),
    (RaisingEq, RaisingEq(math.nan), r"at `\$.number`, nan"),
    (Any, {"items": [0, {"when": 1 + 2j}]}, r"at `\$.items\[1\].when`, complex has no JSON form. Use a"),
    (str, "\ud800", r"half of a surrogate pair.*Repair"),
    (Any, {"a b": ["\udc00"]}, r"at `\$\['a b'\]\[0\]`, .*surrogate"),
    (Any, {"\ud800": 1}, r"surrogate"),
    (Any, _circle, r"at `\$\[0\].again`, it contains itself"),
    (list, _deep, r"nested too deeply"),
    (Any, {(1, 2): 3}, r"a key of the dict has no JSON form"),
    (Any, 10**5000, r"more than 4,000 digits"),
    # its class would be lost
    (Any, dt.datetime(2020, 1, 1), r"datetime.datetime\(2020, 1, 1, 0, 0\) would lose its class.*Annotate"),
    (Any, [Point(1)], r"at `\$\[0\]`, shapes.Point would lose its class: no type is declared"),
    (Any, decimal.Decimal(1), r"decimal.Decimal Decimal\('1'\) would lose its class"),
    (Any, {1, 2}, r"set would lose its class"),
    (Any, b"x", r"bytes would lose its class"),
    (Any, Tone.SOFT, r"<Tone.SOFT: 'soft'> would lose its class"),
    (Any, Level.LOW, r"<Level.LOW: 1> would lose its class"),
    (Any, Color.RED, r"<Color.RED: 'red'> would lose its class"),
    (Any, Item(), r"shapes.Item would lose its class"),
    (Any, Pair(1, None), r"shapes.Pair would lose its class"),
    (Any, {1: 2}, r"the key int 1 would come back as text"),
    (dict, {"a": {1: 2}}, r"at `\$.a`, the key int 1"),
    (object, Found("u"), r"shapes.Found would lose its class"),
    (Loose, Loose(when=dt.date(2020, 1, 1)), r"at `\$.when`, datetime.date\(2020, 1, 1\) would lose"),
    (list[dict[str, Any]], [{"k": [Tone.SOFT]}], r"at `\$\[0\].k\[0\]`, <Tone.SOFT"),
    (Loose | None, Loose(when={1}), r"at `\$.when`, set would lose its class"),
    (Box, Box(Tone.SOFT), r"at `\$.item`, <Tone.SOFT"),
    (
        Tree,
        Tree("a", [Tree("b", [Point(1)])]),
        r"missing required field `name` - at `\$.kids\[0\].kids\[0\]`",
    ),
]


@pytest.mark.parametrize(("annotation", "value", "told"), REFUSED, ids=lambda part: type(part).__name__)
def test_a_value_that_would_not_come_back_is_refused(annotation: Any, value: Any, told: str):
    with pytest.raises(NotSerializableError, match=told) as caught:
        codec(annotation).record(value)
    assert str(caught.value).startswith(f"The {WHERE} ")


@pytest.mark.parametrize("depth", [10, 100, 300, 480, 600, 800, 950, 1_100, 3_000])
@pytest.mark.parametrize("annotation", [Any, list, list[Any] | None])
def test_nesting_is_carried_or_refused_but_never_breaks(annotation: Any, depth: int):
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    try:
        data, live = codec(annotation).record(value)
    except NotSerializableError as error:
        assert depth > 100
        assert "nested too deeply" in str(error)  # noqa: PT017
    else:
        assert codec(annotation).encode(live) == data


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (
            Handle,
            r"`test_values.Handle`, which can't be carried: values of test_values.Handle have no JSON form",
        ),
        (list[Handle | None], r"values of test_values.Handle have no JSON form.*Use plain data"),
        (Point | Tree, r"`shapes.Point \| shapes.Tree`.*more than one dataclass.*give msgspec Structs a tag"),
        (Item | Secret, r"more than one custom type.*pydantic model"),
        (T, r"`~T`, which can't be carried: it holds a type variable"),
        (list[T], r"it holds a type variable"),
        (typing.Iterator[int], r"for iterables say `list\[...\]`"),
        (typing.NoReturn, r"NoReturn.* is not supported"),
        ("Nowhere", r"`Nowhere`.*can't be resolved \(NameError: name 'Nowhere' is not defined\). Define"),
        ("1 +", r"can't be resolved \(SyntaxError"),
        (list["Nowhere"], r"can't be resolved"),  # noqa: F821
    ],
)
def test_a_type_that_cannot_be_carried_is_told_at_first_use(annotation: Any, told: str):
    used = codec(annotation)
    for _ in range(2):
        with pytest.raises(NotSerializableError, match=told):
            used.record(None)
    with pytest.raises(UndecodableError, match=told):
        used.decode(b"null")


@given(st.binary(max_size=30), annotated_values())
def test_damaged_bytes_are_undecodable_and_nothing_else(data: bytes, pair: tuple[Any, Any]):
    with contextlib.suppress(UndecodableError):
        codec(pair[0]).decode(data)


def test_a_recorded_value_of_another_shape_says_where_and_what_to_do():
    data, _ = codec(list[Point]).record([Point(1)])
    with pytest.raises(UndecodableError, match=r"result of step app.fetch.*`\$\[0\]`.*type has changed"):
        codec(list[Found]).decode(data)


def test_a_validator_that_raises_what_it_likes_is_undecodable():
    class Picky(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            raise RuntimeError("no")

    with pytest.raises(UndecodableError, match="no"):
        codec(Picky).decode(b'{"n":1}')
    with pytest.raises(NotSerializableError, match="no"):
        codec(Picky).record(Picky.model_construct(n=1))


# -- annotations ----------------------------------------------------------------------------------------


def test_an_annotation_may_name_what_exists_only_later():
    names: dict[str, Any] = {}
    used = codec("list[Later]", names=names)
    names["Later"] = Point
    with pytest.raises(NotSerializableError):
        used.record([1])
    assert used.record([Point(1)])[1] == [Point(1)]


def test_an_annotation_knows_the_names_around_its_function():
    @dataclasses.dataclass
    class Local:
        n: int

    def fetch() -> Local:
        return Local(1)

    annotation = inspect.signature(fetch).return_annotation
    assert annotation == "Local"
    assert codec(annotation, owner=fetch).record(fetch())[1] == Local(1)


class Shelf:
    def top(self) -> Point:
        return Point(1)


def test_an_annotation_of_a_bound_method_knows_the_names_of_its_module():
    assert codec("Point", owner=Shelf().top).record(Shelf().top())[1] == Point(1)


def test_encode_alone_needs_no_type():
    assert codec("Nowhere").encode({"when": dt.date(2020, 1, 1)}) == b'{"when":"2020-01-01"}'
    with pytest.raises(NotSerializableError, match="complex"):
        codec("Nowhere").encode([1j])


def test_members_of_a_tagged_union_keep_their_class():
    _, live = codec(list[Cat | None]).record([Cat(9), None])
    assert live == [Cat(9), None]


def test_pydantic_is_never_imported():
    code = """
import sys
from perdure.codec.values import ValueCodec
ValueCodec(list[int], "it").record([1])
try:
    ValueCodec(object, "it").record(object())
except Exception:
    print("pydantic" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.strip() == b"False"


# -- size -----------------------------------------------------------------------------------------------


def test_a_payload_over_the_limit_says_size_limit_and_remedy():
    check_size(b"x" * 1000, 1000, WHERE)
    with pytest.raises(PayloadTooLargeError, match=r"app.fetch has 1,001 bytes.*limit is 1,000.*elsewhere"):
        check_size(b"x" * 1001, 1000, WHERE)
