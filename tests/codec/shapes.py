"""Types and strategies for tests: pairs of an annotation and the values that fit it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import typing
import uuid
from typing import Any

import msgspec
import pydantic
from hypothesis import strategies as st

T = typing.TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tone(enum.StrEnum):
    SOFT = "soft"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float | None = None


@dataclasses.dataclass
class Tree:
    name: str
    kids: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(typing.Generic[T]):
    item: T


class Found(msgspec.Struct, frozen=True, rename="camel"):
    page_url: str
    tags: frozenset[str] = frozenset()


class Cat(msgspec.Struct, tag=True, frozen=True):
    lives: int


class Dog(msgspec.Struct, tag=True, frozen=True):
    name: str


class Pair(typing.NamedTuple):
    left: int
    right: str | None


class Options(typing.TypedDict, total=False):
    retries: int
    deep: bool


class Item(pydantic.BaseModel):
    title: str = pydantic.Field(alias="Title", default="")
    when: dt.datetime | None = None
    labels: set[str] = set()

    model_config = pydantic.ConfigDict(populate_by_name=True)


class Items(pydantic.RootModel[list[Item]]):
    pass


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_zones = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
_moments = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=_zones)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_points = st.builds(Point, x=st.integers(), y=st.none() | _numbers)
_items = st.builds(Item, title=TEXT, when=st.none() | _moments, labels=st.sets(TEXT, max_size=3))

#: Plain JSON data, as it comes back.
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

#: Annotation and values; hashable ones, which may stand in sets.
HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (str, TEXT),
    (float, _numbers),
    (bool, st.booleans()),
    (None, st.none()),
    (bytes, st.binary(max_size=8)),
    (dt.datetime, _moments),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-9999), dt.timedelta(days=9999))),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Tone, st.sampled_from(Tone)),
    (typing.Literal["a", 3], st.sampled_from(["a", 3])),
    (pathlib.Path, st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?", fullmatch=True).map(pathlib.Path)),
    (pathlib.PurePosixPath, st.just(pathlib.PurePosixPath("/a/b"))),
    (Point, _points),
    (Found, st.builds(Found, page_url=TEXT, tags=st.frozensets(TEXT, max_size=3))),
    (Cat | Dog, st.builds(Cat, lives=st.integers(0, 9)) | st.builds(Dog, name=TEXT)),
    (Pair, st.builds(Pair, st.integers(), st.none() | TEXT)),
]

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *HASHABLE,
    (Any, PLAIN),
    (object, PLAIN),
    (dict, st.dictionaries(TEXT, PLAIN, max_size=3)),
    (list, st.lists(PLAIN, max_size=3)),
    (
        Tree,
        st.recursive(st.builds(Tree, TEXT), lambda kids: st.builds(Tree, TEXT, st.lists(kids, max_size=2))),
    ),
    (Box[Point], st.builds(Box, _points)),
    (Options, st.fixed_dictionaries({}, optional={"retries": st.integers(), "deep": st.booleans()})),
    (Item, _items),
    (Items, st.builds(Items, st.lists(_items, max_size=2))),
]

_KEYS = [(int, st.integers()), (str, TEXT), (uuid.UUID, st.uuids()), (Color, st.sampled_from(Color))]


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """An annotation, nested at most `depth` deep, and the strategy for its values."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(LEAVES))
    form = draw(st.sampled_from(["list", "tuple", "pair", "dict", "set", "frozenset", "optional"]))
    if form in ("set", "frozenset"):
        kind, values = draw(st.sampled_from(HASHABLE))
        if form == "set":
            return set[kind], st.sets(values, max_size=3)
        return frozenset[kind], st.frozensets(values, max_size=3)
    kind, values = draw(typed(depth=depth - 1))
    if form == "list":
        return list[kind], st.lists(values, max_size=3)
    if form == "tuple":
        return tuple[kind, ...], st.lists(values, max_size=3).map(tuple)
    if form == "pair":
        return tuple[int, kind], st.tuples(st.integers(), values)
    if form == "dict":
        key, keys = draw(st.sampled_from(_KEYS))
        return dict[key, kind], st.dictionaries(keys, values, max_size=3)
    return typing.Optional[kind], st.none() | values  # noqa: UP045 - `kind` may be None itself


@st.composite
def annotated_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """An annotation and one value that fits it."""
    annotation, values = draw(typed())
    return annotation, draw(values)
