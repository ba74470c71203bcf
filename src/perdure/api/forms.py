"""Forms of questions: the fields of an answer, for whoever draws them, and texts read into an answer.

A form is drawn from the JSON Schema that a question has of its answer. Objects within objects become fields with
dotted names, so a form is a flat list, whatever draws it: a page, a terminal, a chat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from perdure.codec.forms import JsonSchema, resolved
from perdure.codec.kinds import is_dict

#: How deep objects within objects are taken apart; what is deeper is one field, as JSON.
DEPTH_MAX = 5

_TRUE = frozenset({"true", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "no", "n", "off", "0"})

#: Kinds of fields by their JSON Schema; everything else is given as JSON.
_KINDS = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text", "array": "list"}
_FORMATS = frozenset({"date-time", "date", "time"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of a form.

    Attributes:
        name: its dotted name within the answer; "" if the answer is just this.
        title: what to call it.
        description: what it means, "" if nothing is known of that.
        kind: "boolean", "integer", "number", "text", "choice", "date-time", "date", "time", "list" or "json".
        required: the answer has to have it.
        nullable: it may be null.
        value: what it begins with; None if that is nothing.
        choices: what there is to choose from, as JSON has it.
        schema: its own JSON Schema.
    """

    name: str
    title: str
    description: str
    kind: str
    required: bool
    nullable: bool
    value: Any
    choices: tuple[Any, ...]
    schema: JsonSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The form of an answer.

    Attributes:
        title: what an answer is called, "" if it has no name.
        description: what it means, "" if nothing is known of that.
        fields: in their order. A form with one field without a name is that value itself.
    """

    title: str
    description: str
    fields: tuple[FormField, ...]

    def read(self, texts: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
        """What people typed, as an answer.

        Args:
            texts: by the names of fields. An empty text leaves out a field that isn't required, or makes it null.

        Returns:
            The answer as plain data, and what couldn't be read, by field. Whether the answer fits is another
            question: see `QuestionInfo.check`.

        Example:
            >>> form_of({"type": "object", "properties": {"n": {"type": "integer"}}}).read({"n": "7"})
            ({'n': 7}, {})
        """
        known = {field.name: field for field in self.fields}
        problems: dict[str, str] = {}
        answer: Any = None if "" in known else {}
        for name, text in texts.items():
            field = known.get(name)
            if field is None:
                told = (
                    f"; the fields are {', '.join(known)}" if "" not in known else ", the answer is one value"
                )
                problems[name] = f"there is no such field{told}"
                continue
            if not text.strip() and field.kind != "text":
                if field.required and not field.nullable:
                    problems[name] = "it is missing"
                if not field.required or not field.nullable:
                    continue
            try:
                value = _value(field, text)
            except ValueError as error:
                problems[name] = str(error)
                continue
            if name:
                _put(answer, name.split("."), value)
            else:
                answer = value
        return answer, problems


def form_of(schema: JsonSchema, default: Any = None) -> Form:
    """The form of a JSON Schema.

    Args:
        default: the answer that it begins with, or some of its fields.

    Example:
        >>> [field.kind for field in form_of({"type": "boolean"}).fields]
        ['boolean']
    """
    top = resolved(schema, schema)
    fields = tuple(_fields(top, schema, "", default, required=True, depth=0))
    return Form(title=top.get("title", ""), description=top.get("description", ""), fields=fields)


def _fields(
    schema: JsonSchema, root: JsonSchema, name: str, default: Any, *, required: bool, depth: int
) -> Iterator[FormField]:
    properties: Mapping[str, JsonSchema] | None = schema.get("properties")
    if properties is None or depth >= DEPTH_MAX or (not properties and depth):
        yield _field(schema, root, name, default, required=required)
        return
    given: Mapping[str, Any] = default if is_dict(default) else {}
    for part, inner in properties.items():
        found = resolved(inner, root)
        yield from _fields(
            found,
            root,
            f"{name}.{part}" if name else part,
            given.get(part, found.get("default")),
            required=required and part in schema.get("required", ()),
            depth=depth + 1,
        )


def _field(schema: JsonSchema, root: JsonSchema, name: str, default: Any, *, required: bool) -> FormField:
    nullable = False
    one: JsonSchema = schema
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives is not None:
        parts: list[JsonSchema] = [resolved(part, root) for part in alternatives]
        nullable = any(part.get("type") == "null" for part in parts)
        others = [part for part in parts if part.get("type") != "null"]
        one = others[0] if len(others) == 1 else {}
    choices = tuple(one.get("enum", [one["const"]] if "const" in one else ()))
    title = schema.get("title") or one.get("title") or name.rpartition(".")[2].replace("_", " ")
    return FormField(
        name=name,
        title=title[:1].upper() + title[1:],
        description=schema.get("description") or one.get("description") or "",
        kind="choice" if choices else _kind(one),
        required=required,
        nullable=nullable or None in choices,
        value=default,
        choices=choices,
        schema=schema,
    )


def _kind(schema: JsonSchema) -> str:
    kind = _KINDS.get(str(schema.get("type")), "json")
    format = schema.get("format")
    return format if kind == "text" and format in _FORMATS else kind


def _value(field: FormField, text: str) -> Any:
    """What a text means in a field. Raises ValueError with what was expected."""
    bare = text.strip()
    if field.nullable and (not bare or bare == "null"):
        return None
    match field.kind:
        case "boolean":
            if bare.lower() not in _TRUE | _FALSE:
                raise ValueError(f"expected yes or no, got {bare!r}")
            return bare.lower() in _TRUE
        case "integer":
            return _number(int, bare, "a whole number")
        case "number":
            return _number(float, bare, "a number")
        case "choice":
            return _choice(field.choices, bare)
        case "list":
            return _items(field, bare)
        case "json":
            return _json(bare, anything=not field.schema.get("type"))
        case _:
            return text if field.kind == "text" else bare


def _number(read: Any, text: str, what: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"expected {what}, got {text!r}") from None


def _choice(choices: Sequence[Any], text: str) -> Any:
    for choice in choices:
        if text in (str(choice), msgspec.json.encode(choice).decode()):
            return choice
    raise ValueError(f"expected {' or '.join(map(str, choices))}, got {text!r}")


def _items(field: FormField, text: str) -> Any:
    """A JSON list; or its items, with commas between."""
    if text.startswith("["):
        return _json(text, anything=False)
    schema: Any = field.schema.get("items")
    item = _field(schema if is_dict(schema) else {}, field.schema, "", None, required=True)
    return [_value(item, part.strip()) for part in text.split(",")]


def _json(text: str, *, anything: bool) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        if anything:
            return text
        raise ValueError(f"it isn't JSON: {error}") from None


def _put(answer: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        answer = answer.setdefault(part, {})
    answer[path[-1]] = value
