"""JSON in canonical order: equal values give equal bytes, in every process, whatever PYTHONHASHSEED says.

msgspec's own deterministic order sorts the text keys of dicts. It refuses other keys, and it compares the
items of sets, which fails for mixed items and goes wrong silently for those of a partial order (frozensets).
So sets are sorted here by the bytes of their items, and other keys are turned into their text first.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy as shallow_copy
from operator import is_
from typing import Any

import msgspec

from perdure.codec.foreign import (
    dump_model,
    encode_hook,
    encode_json,
    is_model,
    model_fields,
)
from perdure.codec.kinds import class_of, field_names, is_dict, is_sequence, is_set

__all__ = ["encode_canonical", "only_scalars"]

_encode_sorted = msgspec.json.Encoder(enc_hook=encode_hook, order="deterministic").encode

# Types whose JSON has no order to settle. Others of this kind (dates, enums) just take the longer way.
_SCALARS = frozenset({str, int, float, bool, type(None), bytes})

#: Whether all of some types are those of simple scalars.
only_scalars = _SCALARS.issuperset

_only_text = frozenset({str}).issuperset


def encode_canonical(value: object) -> bytes:
    """Return JSON bytes that are the same for equal values in every process.

    Args:
        value: anything that has a JSON form.

    Raises:
        TypeError, ValueError, RecursionError: it has none. The serializers of a model may raise anything.

    Example:
        >>> encode_canonical({"b": {3, 1}, "a": None})
        b'{"a":null,"b":[1,3]}'
    """
    return _encode_sorted(_ordered(value))


def _ordered(value: Any) -> Any:
    """Return `value`, or a stand-in whose JSON is in order if msgspec couldn't see to that."""
    if type(value) in _SCALARS:
        return value
    if is_sequence(value):
        return _ordered_items(value)
    if is_dict(value):
        return _ordered_dict(value)
    if is_set(value):
        return _sorted_raw(map(_ordered, value))
    if is_model(value):
        return _align(value, msgspec.json.decode(dump_model(value)))
    if names := field_names(value):
        return _ordered_fields(value, names)
    return value


def _ordered_items(items: list[Any] | tuple[Any, ...]) -> Any:
    if only_scalars(map(type, items)):
        return items
    ordered = [_ordered(item) for item in items]
    return items if all(map(is_, ordered, items)) else ordered


def _ordered_dict(value: dict[Any, Any]) -> Any:
    if not value:
        return value
    if _only_text(map(type, value)):
        if only_scalars(map(type, value.values())):
            return value
        return {key: _ordered(item) for key, item in value.items()}
    texts = [next(iter(msgspec.json.decode(encode_json({key: None})))) for key in value]
    if len(set(texts)) < len(texts):
        raise ValueError("two keys of a dict are the same text in JSON")
    return dict(zip(texts, map(_ordered, value.values()), strict=True))


def _ordered_fields(value: Any, names: Iterable[str]) -> Any:
    changed: dict[str, Any] = {}
    for name in names:
        item = getattr(value, name, None)
        if (ordered := _ordered(item)) is not item:
            changed[name] = ordered
    if not changed:
        return value
    # A copy of the same class keeps what it says about its JSON: tags, renamed and omitted fields.
    if isinstance(value, msgspec.Struct):
        copied: Any = shallow_copy(value)
        for name, item in changed.items():
            msgspec.structs.force_setattr(copied, name, item)
        return copied
    # Field by field, since a dataclass may say how to copy it, and that isn't for us to run.
    copied = object.__new__(class_of(value))
    for name in names:
        object.__setattr__(copied, name, changed.get(name, getattr(value, name, None)))
    return copied


def _align(value: Any, plain: Any) -> Any:
    """Sort those lists of a model's JSON (`plain`) that are sets in the model (`value`)."""
    if is_model(value):
        own = model_fields(value)
        if getattr(type(value), "__pydantic_root_model__", False):
            return _align(own.get("root"), plain)
        if is_dict(plain):
            return {name: _align(own.get(name), item) for name, item in plain.items()}
    elif is_dict(value) and is_dict(plain) and len(value) == len(plain):
        pairs = zip(value.values(), plain.items(), strict=True)
        return {name: _align(item, part) for item, (name, part) in pairs}
    elif (is_set(value) or is_sequence(value)) and is_sequence(plain) and len(value) == len(plain):
        aligned = [_align(item, part) for item, part in zip(value, plain, strict=True)]
        return _sorted_raw(aligned) if is_set(value) else aligned
    return plain


def _sorted_raw(items: Iterable[Any]) -> list[msgspec.Raw]:
    return [msgspec.Raw(data) for data in sorted(map(_encode_sorted, items))]
