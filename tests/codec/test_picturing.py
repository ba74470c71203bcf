"""Values as text: nothing of theirs is called, nothing is too large, secrets stay hidden."""

from __future__ import annotations

import asyncio
import collections
import datetime
import decimal
import enum
import functools
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pydantic

from helpers.travel_programs import Hostile, Order, Spinning
from perdure.codec.picturing import HIDDEN, WHOLE_MAX, picture


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class Struct(msgspec.Struct):
    a: int
    token: str


class Model(pydantic.BaseModel):
    name: str
    key: pydantic.SecretStr
    silent: str = pydantic.Field(default="s", repr=False)


@dataclass(slots=True)
class Slotted:
    a: int
    b: str = field(default="no", repr=False)


class Text(str):
    def __repr__(self) -> str:
        raise ValueError

    __str__ = __len__ = __getitem__ = __repr__  # type: ignore[assignment]


class Mapping(dict[str, int]):
    def items(self) -> Any:
        raise ValueError

    __iter__ = keys = __len__ = __repr__ = items


def test_values_are_shown() -> None:
    # not as parameters: what runs tests asks their values for names
    pairs: list[tuple[Any, str]] = [
        (None, "None"),
        (True, "True"),
        (12, "12"),
        (1.5, "1.5"),
        ("a\nb", "'a\\nb'"),
        ("\udc80", "'\\udc80'"),
        (b"ab", "b'ab'"),
        ([1, [2]], "[1, [2]]"),
        ((1,), "(1,)"),
        ((), "()"),
        ({"a": {1, 2}}, "{'a': {1, 2}}"),
        (set(), "set()"),
        (frozenset({2, 1}), "frozenset({1, 2})"),
        (collections.deque([1]), "deque([1])"),
        (collections.Counter("aa"), "Counter({'a': 2})"),
        (Colour.RED, "Colour.RED"),
        (Point(1, 2), "Point(x=1, y=2)"),
        (Struct(1, "abc"), f"Struct(a=1, token={HIDDEN})"),
        (Slotted(1), "Slotted(a=1)"),
        (Order(7), f"Order(number=7, password={HIDDEN})"),
        (Model(name="n", key=pydantic.SecretStr("k")), f"Model(name='n', key=SecretStr({HIDDEN}))"),
        (ValueError("no", 1), "ValueError('no', 1)"),
        (decimal.Decimal("1.20"), "Decimal('1.20')"),
        (datetime.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (uuid.UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
        (Path("/a"), "PosixPath('/a')"),
        (Text("abc"), "'abc'"),
        (Mapping(a=1), "Mapping({'a': 1})"),
        (Hostile("inside"), "Hostile(text='inside')"),
        (Spinning(), "<Spinning>"),
        (int, "<class int>"),
        (asyncio, "<module asyncio>"),
        (picture, "<function picture>"),
        (functools.partial(picture, 1), "<partial of <function picture>>"),
        ([].append, "<built-in list.append>"),
        (Point(1, 2)._asdict, "<method Point._asdict>"),
        (asyncio.Event(), "<Event, not set>"),
        (
            {"api_key": "sk", "max_tokens": 12, "token": 7},
            f"{{'api_key': {HIDDEN}, 'max_tokens': 12, 'token': 7}}",
        ),
    ]
    for value, text in pairs:
        assert picture(value) == text


def test_a_variable_whose_name_says_secret_is_hidden() -> None:
    assert picture("abc", "api_key") == HIDDEN
    assert picture(b"abc", "password") == HIDDEN
    assert picture(12, "token") == "12"
    assert picture("abc", "total_tokens") == "'abc'"


def test_large_values_are_cut_and_quick() -> None:
    began = time.process_time()
    wide = picture([["x" * 10_000_000] * 1000] * 100_000)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    numbers = picture(list(range(1_000_000)))
    assert len(wide) <= WHOLE_MAX
    assert len(picture(deep)) < 50
    assert numbers.startswith("[0, 1, 2")
    assert numbers.endswith("999999; 1,000,000 items]")
    assert picture(10**100_000) == "<an int of 332,193 bits>"
    assert picture("x" * 1000).endswith("… (1,000 characters)")
    assert len(picture(dict.fromkeys(range(100000), "y" * 500))) <= WHOLE_MAX
    assert time.process_time() - began < 5
    while deep:  # else letting go of it is as deep
        deep = deep.pop()


def test_a_value_in_itself_is_told() -> None:
    items: list[Any] = [1]
    items.append({"again": items})
    assert picture(items) == "[1, {'again': <list, around this>}]"


def test_properties_descriptors_and_metaclasses_arent_asked() -> None:
    asked: list[str] = []

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            asked.append(name)
            return super().__getattribute__(name)

        def __instancecheck__(cls, instance: object) -> bool:
            asked.append("instancecheck")
            return True

    class Asking(metaclass=Meta):
        a = property(lambda self: asked.append("property"))

        def __getattribute__(self, name: str) -> Any:
            asked.append(name)
            return object.__getattribute__(self, name)

        def __hash__(self) -> int:
            asked.append("hash")
            return 1

        def __eq__(self, other: object) -> bool:
            asked.append("eq")
            return True

    value = Asking()
    object.__setattr__(value, "held", [value])
    asked.clear()
    assert "held=[" in picture({1: value, 2: [value]})
    assert asked == []
