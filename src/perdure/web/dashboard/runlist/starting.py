"""A dialog that starts a run: which workflow, with what, under which id, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from perdure.codec.forms import call_schema
from perdure.runtime.definitions import workflow_named
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, Refused, run_path
from perdure.web.dashboard.formfields import FormFields
from perdure.web.views.starting import arguments_of, signature_of


class StartDialog:
    """Opened by a button; made anew each time."""

    def __init__(self, desk: Desk, workflows: Sequence[str], chosen: str = "") -> None:
        self._desk = desk
        self._fields: FormFields | None = None  # of the chosen workflow, if its code is here
        self._text: ui.textarea | None = None  # else
        with ui.dialog() as self._dialog, parts.card("Start a run").classes("pd-dialog pd-start"):
            first = chosen if chosen in workflows else next(iter(workflows), None)
            self._workflow = ui.select(list(workflows), label="Workflow", value=first, with_input=True)
            self._workflow.on_value_change(self._describe)
            self._signature = parts.mono("").classes("pd-dim")
            self._arguments = ui.element("div")
            with ui.element("div").classes("pd-start-more"):
                self._id = ui.input("Run id").props('spellcheck=false hint="Made up if left empty"')
                self._queue = ui.input("Queue").props('spellcheck=false hint="That of the code if empty"')
                self._delay = ui.input("Delay, in seconds").props('inputmode=decimal hint="None if empty"')
            for field in (self._workflow, self._id, self._queue, self._delay):
                field.props("outlined dense stack-label")
            self._trouble = ui.element("div").classes("pd-maybe")
            with parts.row().classes("pd-right"):
                parts.button("Leave it", self._dialog.close)
                parts.button("Start", self._start, main=True).props('aria-label="Start the run"')
        self._dialog.on("hide", self._dialog.delete)
        self._describe()
        self._dialog.open()

    def _describe(self) -> None:
        """Show what the chosen workflow takes: fields if its code is here, else a field for JSON."""
        definition = workflow_named(str(self._workflow.value or ""))
        schema = None if definition is None else call_schema(definition.function, definition.arguments)
        self._signature.text = "" if definition is None else signature_of(definition.function)
        self._signature.set_visibility(definition is not None)
        self._fields = self._text = None
        self._arguments.clear()
        with self._arguments:
            if schema is not None:
                self._fields = FormFields(schema)
                return
            self._text = ui.textarea("Arguments, as JSON", value="")
            self._text.props("outlined dense stack-label autogrow spellcheck=false")
            self._text.classes("pd-mono-field pd-field")
            self._text.props["hint"] = 'An object by name, such as {"topic": "tardigrades"}, or an array'

    def _given(self) -> tuple[list[Any], dict[str, Any]] | None:
        """The arguments; None if they don't fit, which is said then."""
        if self._fields is not None:
            value, fits = self._fields.read()
            return ([], value or {}) if fits else None
        try:
            return arguments_of("" if self._text is None else str(self._text.value or ""))
        except ValueError as error:
            self._say(str(error))
            return None

    def _say(self, text: str) -> None:
        self._trouble.clear()
        with self._trouble:
            parts.trouble(text)

    async def _start(self) -> None:
        body = self._body()
        if body is None:
            return
        try:
            made = await self._desk.send("POST", "/runs", body)
        except Refused as error:
            self._say(_told(error))
            return
        self._dialog.close()
        ui.navigate.to(run_path(made["id"]))

    def _body(self) -> dict[str, Any] | None:
        """The request; None if something can't be read, which is said then."""
        if not self._workflow.value:
            self._say("Choose a workflow.")
            return None
        given = self._given()
        if given is None:
            return None
        body: dict[str, Any] = {"workflow": self._workflow.value, "args": given[0], "kwargs": given[1]}
        for name, field in (("id", self._id), ("queue", self._queue)):
            if text := str(field.value or "").strip():
                body[name] = text
        if delay := str(self._delay.value or "").strip():
            try:
                body["delay"] = float(delay)
            except ValueError:
                self._say(f"{delay!r} is no number of seconds.")
                return None
        return body


def _told(error: Refused) -> str:
    """All that the API says, field by field."""
    more = error.problem.get("errors") or []
    return "\n".join([str(error), *(f"{each.get('where', '')}: {each.get('what', '')}" for each in more)])
