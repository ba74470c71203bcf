"""What kind of value is this: the questions that every walk over unknown values asks.

They are type guards rather than isinstance checks, because the items of an unknown list are of any type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeGuard

import msgspec

__all__ = ["class_of", "field_names", "is_dict", "is_named_tuple", "is_sequence", "is_set"]


def class_of(value: object) -> type[Any]:
    """The class of `value`, with attributes of any type."""
    return type(value)


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether `value` is a dict, or of a subclass."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether `value` is a list or a tuple, named ones included."""
    return isinstance(value, (list, tuple))


def is_set(value: object) -> TypeGuard[set[Any] | frozenset[Any]]:
    """Whether `value` is a set or a frozenset."""
    return isinstance(value, (set, frozenset))


def is_named_tuple(value: object) -> TypeGuard[Any]:
    """Whether `value` is of a NamedTuple class."""
    cls = class_of(value)
    return tuple in cls.__mro__ and hasattr(cls, "_fields")


def field_names(value: Any) -> Sequence[str] | None:
    """Return the fields of a msgspec Struct, dataclass or attrs instance; None if it is none of them."""
    cls = class_of(value)
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if is_dataclass(cls):
        return [field.name for field in fields(cls)]
    attributes = getattr(cls, "__attrs_attrs__", None)
    return None if attributes is None else [attribute.name for attribute in attributes]
