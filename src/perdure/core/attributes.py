"""Attributes: small typed values by which runs are found.

A run's history keeps them as one JSON object for each change, a store as single values of a *family* within
which values can be compared: numbers with numbers, texts with texts. Both forms are made and read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

import msgspec

from perdure.core.bounds import ATTRIBUTE_MAX as NAME_MAX
from perdure.core.bounds import ATTRIBUTES_MAX, TAGS_MAX, TEXT_MAX, storable
from perdure.errors import UsageError

#: What an attribute may hold. A list is a set of tags: a search for one of them finds the run.
AttributeValue: TypeAlias = str | int | float | bool | datetime | list[str]

#: What a search may ask of an attribute: its value, a comparison, or several that must all hold.
AttributeFilter: TypeAlias = str | int | float | bool | datetime | tuple[str, Any] | Sequence[tuple[str, Any]]

#: What is comparable with each other: `number` holds int and float.
Family: TypeAlias = Literal["text", "number", "flag", "moment"]
Single: TypeAlias = str | int | float

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT_MAX = 2**63
_encode = msgspec.json.Encoder(order="deterministic").encode


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """One attribute as a store keeps it.

    Attributes:
        values: one, or the texts of a list; none removes the attribute. Moments are microseconds since the
            epoch, flags 0 or 1.
        listed: it is a list.
    """

    name: str
    family: Family = "text"
    values: Sequence[Single] = ()
    listed: bool = False


class Condition(msgspec.Struct, frozen=True, gc=False):
    """What a run's attribute has to be: `operator` holds between it and any of the `choices`."""

    name: str
    operator: str
    choices: Sequence[tuple[Family, Single]]


def attributes_of(values: Mapping[str, AttributeValue | None]) -> tuple[Attribute, ...]:
    """Checked attributes, ready for a store; None removes one.

    Raises:
        UsageError: a name or value can't be one; names it.
    """
    if len(values) > ATTRIBUTES_MAX:
        msg = (
            f"{len(values)} attributes at once, and no more than {ATTRIBUTES_MAX} may be set so: what nobody searches "
            "for belongs into results"
        )
        raise UsageError(msg)
    return tuple(_attribute(name, value) for name, value in values.items())


def _attribute(name: str, value: Any) -> Attribute:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = f"{name!r} can't name an attribute: a name has 1 to {NAME_MAX} printable characters"
        raise UsageError(msg)
    if any(char in name for char in "=<>! "):
        msg = f"{name!r} can't name an attribute: spaces and = < > ! would be read as a comparison"
        raise UsageError(msg)
    if value is None:
        return Attribute(name)
    if isinstance(value, list | tuple | set | frozenset):
        texts = cast("Iterable[Any]", value)
        tags = tuple(dict.fromkeys(_single(name, text)[1] for text in texts))
        if not all(isinstance(tag, str) for tag in tags) or len(tags) > TAGS_MAX:
            msg = f"attribute {name!r}: a list holds up to {TAGS_MAX} texts; got {value!r}"
            raise UsageError(msg)
        return Attribute(name, "text", tags, listed=True)
    family, single = _single(name, value)
    return Attribute(name, family, (single,))


def _single(name: str, value: Any) -> tuple[Family, Single]:
    """A value's family and how it is kept."""
    if isinstance(value, bool):
        return "flag", int(value)
    if isinstance(value, int) and -_INT_MAX <= value < _INT_MAX:
        return "number", int(value)
    if isinstance(value, float) and math.isfinite(value):
        return "number", float(value)
    if isinstance(value, str) and len(value) <= TEXT_MAX and storable(value):
        return "text", str(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "moment", (value - _EPOCH) // _MICROSECOND
    msg = (
        f"attribute {name!r} can't be {value!r}: give a text of up to {TEXT_MAX} characters (no NUL, no "
        "halves of surrogate pairs), an int of 64 bits, "
        "a finite float, a bool, a datetime with a time zone, or a list of texts; None removes it"
    )
    raise UsageError(msg)


def value_of(attribute: Attribute) -> AttributeValue:
    """The value as users gave it."""
    if attribute.listed:
        return [str(text) for text in attribute.values]
    value = attribute.values[0]
    if attribute.family == "flag":
        return bool(value)
    if attribute.family == "moment":
        return _EPOCH + int(value) * _MICROSECOND
    return value


def attributes_json(attributes: Iterable[Attribute]) -> bytes:
    """A change as one JSON object: null removes, a moment is `{"datetime": "..."}`."""
    told: dict[str, Any] = {}
    for attribute in attributes:
        value = value_of(attribute) if attribute.values or attribute.listed else None
        told[attribute.name] = {"datetime": value.isoformat()} if isinstance(value, datetime) else value
    return _encode(told)


def conditions_of(wanted: Mapping[str, Any]) -> tuple[Condition, ...]:
    """From what users ask for to conditions, all of which must hold.

    Args:
        wanted: by name a value, which it must equal or (a list) contain; a pair such as `(">=", 10)` or
            `("in", ["x", "y"])`; or a list of such pairs, all of which must hold.

    Raises:
        UsageError: an operator or value can't be one.
    """
    return tuple(
        _condition(name, pair)
        for name, value in wanted.items()
        for pair in (_listed(value) if isinstance(value, list) else [value])
    )


def _listed(value: Any) -> list[Any]:
    return list(value)


def _pair(value: Any) -> list[Any]:
    return _listed(value) if isinstance(value, tuple) else []


def _choices(value: Any) -> list[Any] | None:
    return _listed(value) if isinstance(value, list) else None


def _condition(name: str, wanted: Any) -> Condition:
    pair = _pair(wanted)
    operator: str = pair[0] if len(pair) == 2 else "="
    given: Any = pair[1] if len(pair) == 2 else wanted
    if operator == "in" and (choices := _choices(given)) is not None:
        return Condition(name, "=", tuple(_single(name, choice) for choice in choices))
    if operator not in OPERATORS:
        msg = f"attribute {name!r}: {operator!r} compares nothing; use one of {' '.join(OPERATORS)} in"
        raise UsageError(msg)
    _attribute(name, given)
    return Condition(name, operator, (_single(name, given),))
