"""Checks plain data against a JSON Schema, with a word for each place that doesn't fit.

It knows what msgspec and pydantic write into schemas; other keywords say nothing here. An object's fields that the
schema doesn't name are refused, unless it says that there may be others: what a person misspells mustn't be lost.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from perdure.codec.forms import JsonSchema, resolved
from perdure.codec.kinds import is_dict
from perdure.codec.redaction import mask, remember

__all__ = ["Misfit", "misfits"]

_SHOWN = 60  # characters of a value in a message


class Misfit(NamedTuple):
    """A place that doesn't fit: where it is (`items[0].price`, "" for the value itself), and why."""

    field: str
    problem: str


def misfits(value: Any, schema: JsonSchema) -> list[Misfit]:
    """Everything about `value` that isn't as the schema says; empty if it fits.

    Args:
        value: plain data, as JSON has it.

    Example:
        >>> misfits({"ok": "yes"}, {"type": "object", "properties": {"ok": {"type": "boolean"}}})
        [Misfit(field='ok', problem='expected true or false, got "yes"')]
    """
    return list(_check(value, schema, schema, ""))


def _check(value: Any, schema: JsonSchema, root: JsonSchema, at: str) -> Iterator[Misfit]:
    schema = resolved(schema, root)
    if schema.get("x-perdure-secret"):
        yield from _check_secret(value, at)
        return
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in schema:
            yield from _check_any(value, [resolved(item, root) for item in schema[alternatives]], root, at)
            return
    for part in schema.get("allOf", ()):
        yield from _check(value, part, root, at)
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None:
        if not any(_same(value, item) for item in allowed):
            yield Misfit(at, f"expected {' or '.join(map(_shown, allowed))}, got {_shown(value)}")
        return
    kinds = schema.get("type")
    names: list[str] = [kinds] if isinstance(kinds, str) else list(kinds or ())
    if names and not any(_is(value, name) for name in names):
        yield Misfit(
            at, f"expected {' or '.join(_KINDS.get(name, name) for name in names)}, got {_shown(value)}"
        )
        return
    if isinstance(value, str):
        yield from _check_text(value, schema, at)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(value, schema, at)
    elif isinstance(value, list):
        yield from _check_list(value, schema, root, at)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, dict):
        yield from _check_object(value, schema, root, at)  # pyright: ignore[reportUnknownArgumentType]


def _check_secret(value: Any, at: str) -> Iterator[Misfit]:
    """What was given in the place of a reference may be the secret itself: it isn't repeated."""
    fields = value if is_dict(value) else {}
    if set(fields) != {"from", "name"} or not all(isinstance(item, str) for item in fields.values()):
        remember(value, "given as its value")
        told = 'expected where the secret is found, such as {"from": "env", "name": "STRIPE_KEY"}, and never its value'
        yield Misfit(at, told)


def _check_any(value: Any, schemas: list[JsonSchema], root: JsonSchema, at: str) -> Iterator[Misfit]:
    """It has to fit one of them. What is wrong is told of the one that it comes closest to."""
    found = [list(_check(value, schema, root, at)) for schema in schemas]
    if all(found):
        near = [problems for problems in found if all(problem.field != at for problem in problems)]
        if near:
            yield from min(near, key=len)
        else:
            told = " or ".join(dict.fromkeys(_expected(schema) for schema in schemas))
            yield Misfit(at, f"expected {told}, got {_shown(value)}")


def _check_text(value: str, schema: JsonSchema, at: str) -> Iterator[Misfit]:
    if len(value) < schema.get("minLength", 0):
        yield Misfit(at, f"expected {schema['minLength']} characters or more, got {len(value)}")
    if len(value) > schema.get("maxLength", len(value)):
        yield Misfit(at, f"expected {schema['maxLength']} characters at most, got {len(value)}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield Misfit(at, f"expected a text that matches {schema['pattern']!r}, got {_shown(value)}")
    reads = _FORMATS.get(schema.get("format", ""))
    if reads is not None:
        try:
            reads(value)
        except (ValueError, ArithmeticError, msgspec.ValidationError):
            yield Misfit(at, f"expected {_TOLD.get(schema['format'], schema['format'])}, got {_shown(value)}")


def _check_number(value: float, schema: JsonSchema, at: str) -> Iterator[Misfit]:
    for keyword, told, holds in _BOUNDS:
        if keyword in schema and not holds(value, schema[keyword]):
            yield Misfit(at, f"expected a number {told} {schema[keyword]:g}, got {_shown(value)}")
    step = schema.get("multipleOf")
    if step and value % step:
        yield Misfit(at, f"expected a multiple of {step:g}, got {_shown(value)}")


def _check_list(value: list[Any], schema: JsonSchema, root: JsonSchema, at: str) -> Iterator[Misfit]:
    if len(value) < schema.get("minItems", 0):
        yield Misfit(at, f"expected {schema['minItems']} items or more, got {len(value)}")
    if len(value) > schema.get("maxItems", len(value)):
        yield Misfit(at, f"expected {schema['maxItems']} items at most, got {len(value)}")
    first: list[JsonSchema] = schema.get("prefixItems", [])
    rest = schema.get("items")
    for place, item in enumerate(value):
        if place < len(first):
            yield from _check(item, first[place], root, f"{at}[{place}]")
        elif isinstance(rest, Mapping):
            yield from _check(item, rest, root, f"{at}[{place}]")  # pyright: ignore[reportUnknownArgumentType]


def _check_object(value: dict[str, Any], schema: JsonSchema, root: JsonSchema, at: str) -> Iterator[Misfit]:
    prefix = f"{at}." if at else ""
    known: Mapping[str, JsonSchema] = schema.get("properties", {})
    more = schema.get("additionalProperties", "properties" not in schema)
    for name in schema.get("required", ()):
        if name not in value:
            yield Misfit(prefix + name, "it is missing")
    for name, item in value.items():
        if name in known:
            yield from _check(item, known[name], root, prefix + name)
        elif isinstance(more, Mapping):
            yield from _check(item, more, root, prefix + name)  # pyright: ignore[reportUnknownArgumentType]
        elif not more:
            told = f"; the fields are {', '.join(known)}" if known else ""
            yield Misfit(prefix + name, f"there is no such field{told}")


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _is(value: Any, name: str) -> bool:
    match name:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "null":
            return value is None
        case _:
            return True


def _expected(schema: JsonSchema) -> str:
    if "enum" in schema:
        return " or ".join(map(_shown, schema["enum"]))
    if "const" in schema:
        return _shown(schema["const"])
    return _KINDS.get(schema.get("type", ""), str(schema.get("title", "something else")))


def _shown(value: Any) -> str:
    text = mask(msgspec.json.encode(value).decode(errors="replace"))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


_KINDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
    "null": "null",
}

_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("minimum", "of at least", lambda value, bound: value >= bound),
    ("exclusiveMinimum", "greater than", lambda value, bound: value > bound),
    ("maximum", "of at most", lambda value, bound: value <= bound),
    ("exclusiveMaximum", "less than", lambda value, bound: value < bound),
)

_FORMATS: dict[str, Callable[[str], Any]] = {
    "date-time": lambda text: msgspec.convert(text, datetime.datetime),
    "date": lambda text: msgspec.convert(text, datetime.date),
    "time": lambda text: msgspec.convert(text, datetime.time),
    "duration": lambda text: msgspec.convert(text, datetime.timedelta),
    "uuid": uuid.UUID,
    "decimal": Decimal,
}
_TOLD = {
    "date-time": "a moment such as 2026-05-01T12:00:00Z",
    "date": "a date such as 2026-05-01",
    "time": "a time such as 12:30:00",
    "duration": "a duration such as PT30M",
    "uuid": "a UUID",
    "decimal": "a decimal number",
}
