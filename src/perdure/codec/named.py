"""A call's recorded input by the names of its parameters: how people see it, and how they change it.

Recorded are `[[positional, ...], {"keyword": ...}]`, see arguments.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

import msgspec

from perdure.codec.arguments import Arguments
from perdure.codec.forms import JsonSchema, lifted, schema_of
from perdure.errors import NotSerializableError, UndecodableError

__all__ = ["by_name", "changed", "form_of"]

_split = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]]).decode

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def by_name(function: Callable[..., Any], input: bytes) -> dict[str, Any]:
    """The arguments as plain data, by the names of the function's parameters.

    Example:
        >>> def move(source: str, *parts: str, force: bool = False) -> None: ...
        >>> by_name(move, b'[["a","b","c"],{"force":true}]')
        {'source': 'a', 'parts': ['b', 'c'], 'force': True}
    """
    args, kwargs = _split(input)
    names, rest = _positions(function)
    named = dict(zip(names, args, strict=False))
    if rest is not None and len(args) > len(names):
        named[rest] = args[len(names) :]
    return named | kwargs


def changed(
    function: Callable[..., Any], arguments: Arguments, input: bytes, changes: Mapping[str, Any]
) -> bytes:
    """The input with other values for some of its parameters.

    Args:
        changes: plain data, by the names of parameters.

    Raises:
        UndecodableError: they don't fit the function; says which and why.
    """
    args, kwargs = _split(input)
    names, rest = _positions(function)
    for name, value in changes.items():
        if name in names[: len(args)]:
            args[names.index(name)] = value
        elif name == rest:
            if not isinstance(value, list):
                msg = f"argument {name!r} is a list of the further arguments, not {value!r}"
                raise UndecodableError(msg)
            args[len(names) :] = value  # pyright: ignore[reportUnknownArgumentType]
        else:
            kwargs[name] = value
    try:
        data, _ = arguments.record(*arguments.decode(msgspec.json.encode((args, kwargs))))
    except (NotSerializableError, UndecodableError) as error:
        msg = f"the changed arguments don't fit: {error.__cause__ or error}"
        raise UndecodableError(msg) from None
    return data


def form_of(function: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    """JSON Schema of an object with the function's parameters.

    Raises:
        NotSerializableError: a parameter's type has no form.
    """
    properties: dict[str, JsonSchema] = {}
    more = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            more = True
            continue
        schema = schema_of(arguments.type_of(parameter.name))
        many = parameter.kind is Parameter.VAR_POSITIONAL
        properties[parameter.name] = {"type": "array", "items": schema} if many else schema
    return lifted({"type": "object", "properties": properties, "additionalProperties": more})


def _positions(function: Callable[..., Any]) -> tuple[list[str], str | None]:
    """The names of parameters that can be given by position, and of the one that takes all further ones."""
    parameters = inspect.signature(function).parameters.values()
    rest = (parameter.name for parameter in parameters if parameter.kind is Parameter.VAR_POSITIONAL)
    return [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL], next(rest, None)
