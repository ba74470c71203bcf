"""Forms: what a value of a type looks like, as JSON Schema, for those who are to give one and haven't the type.

Whoever answers a question may be a command line, a web page or another program, in a process that doesn't have the
workflow's code. So a question carries the JSON Schema of its answer. A form is drawn from that, and an answer is
checked by it, with a word for each field that doesn't fit. The last word has the type itself, in the process that has
it: validators of models are code, and no schema tells of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import PurePath
from typing import Any

import msgspec

from perdure.codec.arguments import Arguments
from perdure.codec.foreign import is_model_class
from perdure.codec.kinds import is_dict, is_sequence
from perdure.codec.secret import is_secret_class, secret_schema
from perdure.errors import NotSerializableError, PerdureError

__all__ = ["JsonSchema", "call_schema", "lifted", "resolved", "schema_of"]

#: A JSON Schema as plain data.
JsonSchema = Mapping[str, Any]

_DEFS = "#/$defs/"

#: What these hold is data, and no schema.
_DATA = frozenset({"enum", "default", "const", "examples"})


def schema_of(annotation: Any, choices: Sequence[Any] | None = None) -> dict[str, Any]:
    """The JSON Schema of a type, as plain data; definitions are in its `$defs`.

    Args:
        choices: the values that are allowed, None = all of the type.

    Raises:
        NotSerializableError: msgspec or pydantic can't tell one.

    Example:
        >>> schema_of(bool)
        {'type': 'boolean'}
    """
    if choices is not None:
        return {"enum": list(choices)}
    try:
        schema = msgspec.json.schema(annotation, schema_hook=_foreign)
    except Exception as error:
        msg = (
            f"`{annotation!r}` has no form: {error}. Ask for plain data, a dataclass, msgspec Struct, TypedDict, "
            "NamedTuple, Enum or pydantic model"
        )
        raise NotSerializableError(msg) from error
    return lifted(schema)


def call_schema(function: Any, arguments: Arguments) -> dict[str, Any] | None:
    """The JSON Schema of a call by keywords; None where there are arguments that can't be given so, or have no form."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    try:
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                return None
            properties[name] = schema_of(arguments.type_of(name))
            if parameter.default is Parameter.empty:
                required.append(name)
            else:
                properties[name]["default"] = msgspec.to_builtins(parameter.default)
    except (PerdureError, TypeError, ValueError, RecursionError):
        return None
    return lifted({"type": "object", "properties": properties, "required": required})


def lifted(schema: JsonSchema) -> dict[str, Any]:
    """The same schema with all its definitions at the top, in its `$defs`."""
    definitions: dict[str, Any] = {}
    found: dict[str, Any] = _lift(schema, definitions, {})
    return {**found, "$defs": definitions} if definitions else found


def resolved(schema: JsonSchema, root: JsonSchema) -> JsonSchema:
    """The schema that a reference stands for; what stands beside the reference counts, too."""
    seen: set[str] = set()
    while isinstance(reference := schema.get("$ref"), str) and reference not in seen:
        seen.add(reference)
        target = root.get("$defs", {}).get(reference.removeprefix(_DEFS), {})
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "$defs")}
        schema = {**target, **beside}
    return schema


def _foreign(cls: type[Any]) -> dict[str, Any]:
    """For types that msgspec leaves to its user."""
    if is_model_class(cls):
        model: Any = cls
        made: dict[str, Any] = model.model_json_schema(by_alias=False)
        return made
    if isinstance(cls, type) and issubclass(cls, PurePath):
        return {"type": "string"}
    if is_secret_class(cls):
        return secret_schema()
    if cls is object:
        return {}
    raise TypeError(f"{cls.__qualname__} has no JSON form")


def _lift(node: Any, definitions: dict[str, Any], names: Mapping[str, str]) -> Any:
    """Take definitions from within to the top. Of several with one name, the later ones get others.

    Args:
        names: what the definitions in scope here are called at the top.
    """
    if is_sequence(node):
        return [_lift(item, definitions, names) for item in node]
    if not is_dict(node):
        return node
    own: dict[str, Any] = node.get("$defs", {})
    if own:
        inner = dict(names)
        for name in own:
            inner[name] = _free(name, definitions)
            definitions[inner[name]] = None  # it may refer to itself
        for name, definition in own.items():
            definitions[inner[name]] = _lift(definition, definitions, inner)
        names = inner
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "$ref":
            name = str(value).removeprefix(_DEFS)
            result[key] = _DEFS + names.get(name, name)
        elif key in _DATA:
            result[key] = value
        elif key != "$defs":
            result[key] = _lift(value, definitions, names)
    return result


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
