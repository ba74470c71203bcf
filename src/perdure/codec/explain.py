"""Why a value can't be carried: the slow walks that run only when something is wrong.

    unwritable   the innermost part that has no JSON form, after encoding failed
    non_finite   a NaN or infinity, which JSON would silently turn into null
    difference   the first place where the value that came back isn't the value that went
    not_plain    the first part that isn't plain JSON data, for places that declare no type

Each returns a `Problem`, or None. Paths are written as msgspec writes them, `$.items[3].when`, but with the
keys of dicts spelled out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from perdure.codec.foreign import encode_json, is_model, model_fields
from perdure.codec.kinds import class_of, field_names, is_dict, is_named_tuple, is_sequence, is_set
from perdure.codec.redaction import mask
from perdure.codec.secret import ADVICE, BARE, is_secret

__all__ = [
    "Problem",
    "children",
    "describe",
    "difference",
    "equal",
    "key_suffix",
    "non_finite",
    "not_plain",
    "unwritable",
]

#: JSON nests no deeper than this without trouble; a walk that gets here is in a circle.
_TOO_DEEP = 500

_PLAIN = frozenset({str, int, float, bool, type(None)})
_only_plain = _PLAIN.issuperset
_only_text = frozenset({str}).issuperset

_NESTED = ("it is nested too deeply for JSON", "Use a flat list of its parts instead.")

_ANNOTATE = "Annotate its type (the return type, the parameter or the field), or use plain data."


class Problem(NamedTuple):
    """A part of a value that can't be carried."""

    path: str  #: where it is, from the root `$`
    what: str  #: what is wrong there
    advice: str  #: what to do about it


def describe(value: object) -> str:
    """Name a value's type, and show the value itself if that's short."""
    cls = type(value)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    if value is None:
        return "None"
    if is_secret(value):
        return repr(value)
    if isinstance(value, (str, int, float, Decimal, Enum)) or cls.__module__ in {"datetime", "uuid"}:
        try:
            text = mask(repr(value))
        except Exception:  # noqa: BLE001 - a broken __repr__ mustn't hide the real error
            return name
        text = text if len(text) <= 60 else f"{text[:57]}..."
        return text if text.startswith((name, "<")) else f"{name} {text}"
    return name


def equal(one: object, other: object) -> bool:
    """Whether two values say they are equal. A comparison that raises or answers oddly counts as no."""
    try:
        return (one == other) is True
    except Exception:  # noqa: BLE001 - __eq__ is user code; the structural walk decides then
        return False


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, each with what it adds to the path. Scalars have none."""
    if is_model(value):
        for name, item in model_fields(value).items():
            yield f".{name}", item
    elif is_named_tuple(value):
        for name, item in zip(value._fields, value, strict=False):
            yield f".{name}", item
    elif is_sequence(value):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif is_dict(value):
        for key, item in value.items():
            yield key_suffix(key), item
    elif is_set(value):
        for index, item in enumerate(_in_order(value)):
            yield f"[{index}]", item
    else:
        for name in field_names(value) or ():
            yield f".{name}", getattr(value, name, None)


def key_suffix(key: object) -> str:
    """What a dict's key adds to the path."""
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def unwritable(value: object, encode: Callable[[object], bytes] = encode_json) -> Problem:
    """Find the innermost part of `value` that `encode` refuses. Call it after `encode(value)` has raised."""
    path, error, above = "$", _refusal(encode, value), {id(value)}
    while len(above) < _TOO_DEEP:
        refusals = ((suffix, item, _refusal(encode, item)) for suffix, item in children(value))
        inner = next(((suffix, item, told) for suffix, item, told in refusals if told is not None), None)
        if inner is None:
            return Problem(path, *_reason(value, error))
        suffix, value, error = inner
        path += suffix
        if id(value) in above:
            return Problem(path, "it contains itself", "JSON has no references: use ids in place of them.")
        above.add(id(value))
    return Problem(f"{path[:60]}...", *_NESTED)


def _refusal(encode: Callable[[object], bytes], value: object) -> Exception | None:
    try:
        encode(value)
    # A model's serializer is user code and may raise anything.
    except Exception as error:  # noqa: BLE001 - it is returned
        return error
    return None


def _reason(value: object, error: Exception | None) -> tuple[str, str]:
    if isinstance(error, UnicodeEncodeError):
        return (
            "a text holds half of a surrogate pair, which UTF-8 can't express",
            "Repair the text where it enters the program: text.encode(errors='replace').decode().",
        )
    # Without an error the encoder managed, and some walk over the value didn't.
    if error is None or isinstance(error, RecursionError):
        return _NESTED
    if is_secret(value):
        return BARE, ADVICE
    if is_dict(value):
        return (
            f"a key of the dict has no JSON form ({error})",
            "Use text, numbers, dates, UUIDs or paths as keys.",
        )
    if isinstance(value, int):
        return f"the integer has more than 4,000 digits ({error})", "Use text or bytes instead."
    return (
        f"{describe(value)} has no JSON form",
        "Use a dataclass, msgspec Struct, pydantic model or plain data instead, or the id of the object.",
    )


def non_finite(value: object, path: str = "$") -> Problem | None:
    """Find a NaN or an infinity in `value`."""
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return Problem(
            path,
            f"{float(value)!r} has no JSON form: it would come back as None",
            "Use None in its place and declare `float | None`, or raise an error for it.",
        )
    return next(filter(None, (non_finite(item, path + suffix) for suffix, item in children(value))), None)


def difference(value: Any, decoded: Any, path: str = "$") -> Problem | None:
    """Find the first place where `decoded` doesn't say what `value` said.

    Containers of one family (list and tuple; set and frozenset; dict and its subclasses) may stand for each
    other: the annotation decides which it is. Classes with fields may not.
    """
    family = _family(value)
    if family is None:
        if equal(value, decoded) or _same_decimal(value, decoded):
            return None
        return non_finite(value, path) or _changed(path, value, decoded)
    if family is not _family(decoded):
        return _changed(path, value, decoded)
    mine, theirs = list(children(value)), list(children(decoded))
    if is_dict(value) and is_dict(decoded):
        if problem := _keys_differ(value, decoded, path):
            return problem
        found = decoded
        theirs = [("", found[key]) for key in value]
    elif len(mine) != len(theirs):
        return Problem(path, f"{len(mine)} items went and {len(theirs)} came back", _ANNOTATE)
    for (suffix, item), (_, came) in zip(mine, theirs, strict=True):
        if problem := difference(item, came, path + suffix):
            return problem
    return None


def not_plain(value: Any, path: str = "$") -> Problem | None:
    """Find the first part of `value` that isn't plain JSON data: text, numbers, bools, None, lists, dicts."""
    kind = class_of(value)
    if kind in _PLAIN:
        return None
    if kind is list or kind is tuple:
        if _only_plain(map(type, value)):
            return None
    elif kind is not dict:
        return Problem(path, f"{describe(value)} would lose its class: no type is declared there", _ANNOTATE)
    elif not _only_text(map(type, value)):
        key = next(key for key in value if type(key) is not str)
        return Problem(path, f"the key {describe(key)} would come back as text", _ANNOTATE)
    elif _only_plain(map(type, value.values())):
        return None
    return next(filter(None, (not_plain(item, path + suffix) for suffix, item in children(value))), None)


def _family(value: object) -> type[Any] | None:
    """What a value is when comparing: None for scalars, one type for each family, its own class otherwise."""
    if is_model(value) or is_named_tuple(value) or field_names(value) is not None:
        return class_of(value)
    if is_sequence(value):
        return list
    if is_set(value):
        return set
    return dict if is_dict(value) else None


def _in_order(items: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(items, key=encode_json)
    except Exception:  # noqa: BLE001 - an item that can't be encoded; any order will do to find it
        return list(items)


def _keys_differ(value: dict[Any, Any], decoded: dict[Any, Any], path: str) -> Problem | None:
    for key in value:
        if key in decoded:
            continue
        if any(str(key) == other for other in decoded if isinstance(other, str)) and not isinstance(key, str):
            return Problem(path, f"the key {describe(key)} would come back as text", _ANNOTATE)
        return Problem(
            path,
            f"the key {describe(key)} isn't part of the declared type, and would be dropped",
            "Add it to the type, or leave it out of the value.",
        )
    extra = next((key for key in decoded if key not in value), None)
    if extra is None:
        return None
    return Problem(path, f"the key {describe(extra)} would be added", "Give the key a value.")


def _same_decimal(one: object, other: object) -> bool:
    # A Decimal NaN isn't equal to itself; its text is.
    return isinstance(one, Decimal) and isinstance(other, Decimal) and str(one) == str(other)


def _changed(path: str, value: object, decoded: object) -> Problem:
    return Problem(
        path,
        f"{describe(value)} would come back as {describe(decoded)}",
        "Give what the declared type says, or correct the type.",
    )
