"""A form on a page, drawn from a JSON Schema: fields that say what is wrong with what somebody typed.

What can't be drawn as a field is typed as JSON. Whether an answer fits is asked of the schema here, and of the type
itself by whoever takes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from nicegui import ui

from perdure.api.forms import FormField, form_of
from perdure.codec.fitting import misfits
from perdure.codec.forms import JsonSchema

_NUMBERS: Final = frozenset({"integer", "number"})
_INPUT_TYPES: Final = {"integer": "number", "number": "number", "date": "date", "time": "time"}
_HINTS: Final = {
    "list": "Values with commas between, or a JSON array",
    "json": "JSON",
    "date-time": "Such as 2026-01-31T12:00:00Z",
}


class FormFields:
    """Fields for a value of a schema, drawn where it is made.

    Args:
        schema: of the value; None = any JSON.
        default: what the form begins with.
        label: what the value is called, where it is a single field.
        but: the names of fields that are asked for otherwise; `read` is given them.
    """

    def __init__(
        self,
        schema: JsonSchema | None,
        default: Any = None,
        *,
        label: str = "Value",
        but: Collection[str] = (),
    ) -> None:
        self._schema: JsonSchema = schema if schema is not None else {}
        self._form = form_of(self._schema, default)
        self._inputs: dict[str, Any] = {}
        self._fields = {field.name: field for field in self._form.fields}
        if self._form.description:
            ui.label(self._form.description).classes("pd-dim")
        with ui.element("div").classes("pd-form"):
            for field in self._form.fields:
                if field.name in but:
                    continue
                self._inputs[field.name] = _drawn(field, field.title or label)

    @property
    def empty(self) -> bool:
        """There is nothing to fill in."""
        return not self._inputs

    def read(self, given: Mapping[str, str] | None = None) -> tuple[Any, bool]:
        """What was typed as plain data, and whether it fits; what doesn't is told at its field.

        Args:
            given: what fields that aren't drawn hold, by their names.
        """
        texts: dict[str, str] = dict(given or {})
        for name, element in self._inputs.items():
            element.error = None
            field = self._fields[name]
            text = "" if element.value is None else str(element.value)
            if text or field.required or field.nullable:
                texts[name] = text
        answer, problems = self._form.read(texts)
        if not problems:
            for name, problem in misfits(answer, self._schema):
                problems.setdefault(name, problem)
        self.tell(problems)
        return answer, not problems

    def tell(self, problems: Mapping[str, str]) -> None:
        """Say at the fields what is wrong with them."""
        for name, problem in problems.items():
            self._tell(name, problem)

    def _tell(self, name: str, problem: str) -> None:
        element = self._inputs.get(name)
        if element is None:  # of a part of what one field holds
            near = [known for known in self._inputs if name.startswith(f"{known}.") or not known]
            element = self._inputs[near[0]] if near else next(iter(self._inputs.values()), None)
            problem = f"{name}: {problem}"
        if element is not None:
            element.error = problem
        else:
            ui.notify(problem, type="negative")


def _drawn(field: FormField, title: str) -> Any:
    label = title + (" *" if field.required and not field.nullable else "")
    value = _text(field.value)
    match field.kind:
        case "boolean":
            choices = {"true": "Yes", "false": "No"}
            made: Any = ui.select(choices, value=value or None, label=label, clearable=not field.required)
        case "choice":
            made = ui.select(
                {_choice(each): str(each) for each in field.choices},
                value=_choice(field.value) if field.value in field.choices else None,
                label=label,
                clearable=not field.required,
            )
        case "json":
            shown = "" if field.value is None else json.dumps(field.value, indent=2, ensure_ascii=False)
            made = ui.textarea(label, value=shown).props("autogrow spellcheck=false").classes("pd-mono-field")
        case "text":
            made = ui.textarea(label, value=value).props("autogrow rows=1")
        case kind:
            made = ui.input(label, value=value)
            if kind in _INPUT_TYPES:
                made.props(
                    f"type={_INPUT_TYPES[kind]} step=any"
                    if kind in _NUMBERS
                    else f"type={_INPUT_TYPES[kind]}"
                )
    made.props("outlined dense stack-label").classes("pd-field")
    hint = field.description or _HINTS.get(field.kind, "")
    if hint:
        made._props["hint"] = hint
    return made


def _choice(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class JsonField:
    """A field for JSON of any kind.

    Args:
        value: what it begins with; None = nothing.
    """

    def __init__(self, label: str, value: bytes | None, *, hint: str = "JSON") -> None:
        text = ""
        if value is not None:
            try:
                text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
            except (ValueError, RecursionError):
                text = ""
        self._area = ui.textarea(label, value=text)
        self._area.props("outlined dense stack-label autogrow spellcheck=false").classes(
            "pd-mono-field pd-field"
        )
        self._area._props["hint"] = hint

    @property
    def element(self) -> ui.textarea:
        return self._area

    def read(self) -> tuple[Any, bool]:
        """The value, and whether it is JSON; if not, the field says so."""
        self._area.error = None
        try:
            return msgspec.json.decode(str(self._area.value or "").encode()), True
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            self._area.error = f"It isn't JSON: {error}"
            return None, False
