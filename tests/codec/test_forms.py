"""Forms: JSON Schema of types, checking plain data by it, and calls by the names of their parameters."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.arguments import Arguments
from perdure.codec.fitting import misfits
from perdure.codec.forms import lifted, schema_of
from perdure.codec.named import by_name, changed, form_of
from perdure.codec.values import ValueCodec
from perdure.errors import NotSerializableError, UndecodableError


class Kind(enum.Enum):
    A = "a"
    B = "b"


class Inner(pydantic.BaseModel):
    """Inside."""

    x: int = pydantic.Field(gt=0)
    more: list[Inner] = []


class Outer(pydantic.BaseModel):
    inner: Inner
    tag: Literal["t"] = "t"


@dataclass
class Plain:
    name: str
    kind: Kind = Kind.A
    inner: Inner | None = None


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Options(TypedDict, total=False):
    deep: bool
    size: int


@dataclass
class Everything:
    plain: Plain
    outer: Outer
    point: Point
    options: Options
    when: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    id: uuid.UUID
    path: Path
    data: bytes
    names: set[str]
    by_name: dict[str, int]
    pair: tuple[int, str]
    anything: Any
    score: Annotated[int, msgspec.Meta(ge=1, le=5)]
    long: datetime.timedelta


VALUE = Everything(
    plain=Plain("n", Kind.B, Inner(x=1, more=[Inner(x=2)])),
    outer=Outer(inner=Inner(x=3)),
    point=Point(1),
    options={"deep": True},
    when=datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC),
    day=datetime.date(2026, 5, 1),
    price=decimal.Decimal("1.50"),
    id=uuid.UUID(int=7),
    path=Path("a/b"),
    data=b"\x00\xff",
    names={"a", "b"},
    by_name={"a": 1},
    pair=(1, "x"),
    anything=[None, {"a": 1}],
    score=5,
    long=datetime.timedelta(minutes=3),
)


def plain(value: Any) -> Any:
    return msgspec.json.decode(ValueCodec[Any](type(value), "x").encode(value))


def test_what_a_type_carries_fits_its_schema() -> None:
    schema = schema_of(Everything)
    msgspec.json.encode(schema)  # it is plain data
    assert misfits(plain(VALUE), schema) == []


def test_definitions_of_models_are_at_the_top() -> None:
    """Wherever they were, also if several have one name."""
    schema = schema_of(Everything)
    assert {"Everything", "Plain", "Point", "Options", "Inner", "Kind"} <= set(schema["$defs"])

    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in references(item)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if "$ref" in node else []
        return own + [name for value in node.values() for name in references(value)]

    assert {name.removeprefix("#/$defs/") for name in references(schema)} <= set(schema["$defs"])
    same = {"$defs": {"A": {"type": "string"}}, "$ref": "#/$defs/A"}
    other = {"$defs": {"A": {"type": "integer"}}, "$ref": "#/$defs/A"}
    together = lifted(
        {"type": "object", "properties": {"one": same, "two": other, "n": {"default": {"$ref": 1}}}}
    )
    assert misfits({"one": "x", "two": 1}, together) == []
    assert {item.field for item in misfits({"one": 1, "two": "x"}, together)} == {"one", "two"}
    assert together["properties"]["n"] == {"default": {"$ref": 1}}


def test_types_without_a_form_are_told() -> None:
    with pytest.raises(NotSerializableError, match="has no form"):
        schema_of(type(pytest))


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"score": 0}, "score", "a number of at least 1"),
        ({"score": True}, "score", "a whole number"),
        ({"day": "tomorrow"}, "day", "a date such as"),
        ({"price": "x"}, "price", "a decimal number"),
        ({"id": "x"}, "id", "a UUID"),
        ({"long": "x"}, "long", "a duration"),
        ({"pair": [1, 2]}, "pair[1]", "a text"),
        ({"by_name": {"a": "x"}}, "by_name.a", "a whole number"),
        ({"names": [1]}, "names[0]", "a text"),
        ({"plain": {"kind": "c", "name": "n"}}, "plain.kind", 'expected "a" or "b"'),
        ({"plain": {"name": "n", "inner": {"x": 0}}}, "plain.inner.x", "greater than 0"),
        ({"plain": {"name": "n", "inner": 3}}, "plain.inner", "an object or null"),
        ({"outer": {"inner": {"x": 1, "more": [{"x": 1}, {}]}}}, "outer.inner.more[1].x", "missing"),
        ({"outer": {"inner": {"x": 1}, "tag": "u"}}, "outer.tag", 'expected "t"'),
        ({"options": {"depth": 1}}, "options.depth", "no such field; the fields are deep, size"),
        ({"more": 1}, "more", "no such field"),
    ],
)
def test_what_doesnt_fit_is_told_by_field(changes: dict[str, Any], field: str, problem: str) -> None:
    found = misfits({**plain(VALUE), **changes}, schema_of(Everything))
    assert [item.field for item in found] == [field]
    assert problem in found[0].problem


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyab"), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "kind", [bool, int, str, list[int], int | None, Kind, Point, dict[str, bool], Literal["a", 1]]
)
@given(value=_JSON)
def test_what_the_schema_lets_pass_the_type_reads(kind: Any, value: Any) -> None:
    """As far as there are no validators; so nobody is asked again for what the form has let pass."""
    if misfits(value, schema_of(kind)):
        return
    ValueCodec[Any](kind, "x").decode(msgspec.json.encode(value))


# -- calls ------------------------------------------------------------------------------------------------


def move(source: str, /, *parts: int, force: bool = False, **more: str) -> None: ...


def send(to: str, cents: int, note: str = "") -> None: ...


@pytest.mark.parametrize(
    ("function", "input", "named"),
    [
        (send, b'[["ann",5],{}]', {"to": "ann", "cents": 5}),
        (send, b'[["ann",5],{"note":"x"}]', {"to": "ann", "cents": 5, "note": "x"}),
        (
            move,
            b'[["a",1,2],{"force":true,"z":"y"}]',
            {"source": "a", "parts": [1, 2], "force": True, "z": "y"},
        ),
        (move, b'[["a"],{}]', {"source": "a"}),
    ],
)
def test_arguments_have_the_names_of_their_parameters(
    function: Any, input: bytes, named: dict[str, Any]
) -> None:
    assert by_name(function, input) == named
    assert misfits(named, form_of(function, Arguments(function, "step x"))) == []


@pytest.mark.parametrize(
    ("function", "input", "changes", "result"),
    [
        (send, b'[["ann",5],{}]', {"cents": 6}, b'[["ann",6],{}]'),
        (send, b'[["ann",5],{}]', {"note": "x"}, b'[["ann",5,"x"],{}]'),
        (send, b'[["ann",5],{}]', {}, b'[["ann",5],{}]'),
        (move, b'[["a",1,2],{}]', {"source": "b", "parts": [3], "force": True}, b'[["b",3],{"force":true}]'),
        (move, b'[["a"],{}]', {"parts": [1], "other": "x"}, b'[["a",1],{"other":"x"}]'),
    ],
)
def test_arguments_are_changed_by_name(
    function: Any, input: bytes, changes: dict[str, Any], result: bytes
) -> None:
    assert changed(function, Arguments(function, "step x"), input, changes) == result


@pytest.mark.parametrize(
    ("function", "changes", "told"),
    [
        (send, {"cents": "x"}, "Expected `int`"),
        (send, {"iban": 1}, "has an argument 'iban'"),
        (move, {"parts": 3}, "is a list"),
    ],
)
def test_changes_that_dont_fit_are_told(function: Any, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UndecodableError, match=told):
        changed(function, Arguments(function, "step x"), b'[["ann",5],{}]', changes)
