"""The tab of messages: what has come, what the run asks and understands, and forms to say something to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from nicegui import ui

from perdure.api.interface import RunInterface
from perdure.api.questions import QuestionInfo
from perdure.codec.forms import JsonSchema
from perdure.core import events as ev
from perdure.core.timeline import set_aside
from perdure.errors import PerdureError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Refused, run_path
from perdure.web.dashboard.formfields import FormFields
from perdure.web.dashboard.run import decide
from perdure.web.dashboard.run.watch import Watch
from perdure.web.views.values import value_markup

_SHOWN = 50
_PATIENCE = 5.0  # seconds that a worker elsewhere has to tell what the run understands

_NOTHING = RunInterface(messages={}, updates={}, queries={})


class TalkTab:
    """What is said to a run."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._seen = -1
        self._understood: RunInterface | None = None
        self._asked: tuple[str, ...] = ()
        self._questions = ui.element("div").classes("pd-stack")
        self._forms = ui.element("div").classes("pd-stack")
        self._messages = ui.element("div").classes("pd-stack")

    async def refresh(self) -> None:
        """Look what has changed; forms that somebody is filling in stay as they are."""
        watch = self._watch
        await self._look_at_questions()
        if len(watch.log.events) == self._seen:
            return
        self._seen = len(watch.log.events)
        self._list_messages()
        if not watch.info.status.final:
            await self._look_at_forms()
        else:
            self._forms.clear()

    async def _look_at_questions(self) -> None:
        watch = self._watch
        found = [each async for each in watch.desk.engine.questions(run=watch.id, limit=_SHOWN)]
        if (ids := tuple(each.id for each in found)) == self._asked:
            return
        self._asked = ids
        self._questions.clear()
        with self._questions:
            for question in found:
                self._question(question)

    def _question(self, question: QuestionInfo) -> None:
        title = f"It asks {question.to}" if question.to else "It asks"
        with parts.card(title):
            decide.answer_form(self._watch, question, lambda: None)

    async def _look_at_forms(self) -> None:
        try:
            found = await asyncio.wait_for(self._watch.handle.interface(), _PATIENCE)
        except (PerdureError, TimeoutError):
            found = _NOTHING
        if found == self._understood:
            return
        self._understood = found
        self._forms.clear()
        watch = self._watch
        with self._forms, ui.element("div").classes("pd-grid"):
            with parts.card("Send a message"):
                self._message_forms(found.messages)
            for name, schema in found.updates.items():
                with parts.card(f"Update {name}"):
                    _call_form(watch, "updates", name, schema, "Call")
            for name, schema in found.queries.items():
                with parts.card(f"Query {name}"):
                    _call_form(watch, "queries", name, schema, "Ask")

    def _message_forms(self, known: Mapping[str, JsonSchema | None]) -> None:
        names = list(known)
        name = ui.input("Name", value=names[0] if names else "", autocomplete=names)
        name.props("outlined dense stack-label").classes("pd-field")
        if names:
            ui.label(f"It waits for {', '.join(names)}.").classes("pd-dim")
        holder = ui.element("div")
        form: dict[str, FormFields] = {}

        def draw() -> None:
            holder.clear()
            with holder:
                form["fields"] = FormFields(known.get(str(name.value or "")))

        draw()
        name.on("blur", draw)

        async def send() -> None:
            value, good = form["fields"].read()
            wanted = str(name.value or "").strip()
            name.error = None if wanted else "It is missing"
            if good and wanted:
                path = run_path(self._watch.id, "messages", wanted)
                await self._watch.desk.act(f"Sent {wanted}.", "POST", path, {"value": value})

        with parts.row().classes("pd-right"):
            parts.button("Send", send, main=True, allowed=self._watch.desk.operates)

    def _list_messages(self) -> None:
        watch = self._watch
        aside = dict(set_aside(watch.log.events))
        received = [
            (seq, event)
            for seq, event in enumerate(watch.log.events, 1)
            if isinstance(event, ev.MessageReceived | ev.MessageSent)
        ]
        final = watch.log.final
        unread: frozenset[int] = frozenset(getattr(final, "unread", ()))
        self._messages.clear()
        with self._messages, parts.card("Messages"):
            if not received:
                parts.empty("No messages yet", "What is sent to this run, and what it sends, is listed here.")
            for seq, event in reversed(received[-_SHOWN:]):
                with ui.element("article").classes("pd-message"):
                    with parts.row():
                        ui.label(event.name).classes("pd-strong")
                        if isinstance(event, ev.MessageSent):
                            ui.label("to").classes("pd-dim")
                            parts.link(watch.desk.url(run_path(event.run)), event.run)
                        elif event.sender is not None:
                            ui.label("from").classes("pd-dim")
                            parts.link(watch.desk.url(run_path(event.sender)), event.sender)
                        ui.label(f"event {seq}").classes("pd-dim")
                        if seq in unread:
                            ui.label("undelivered").classes("pd-badge pd-hold")
                    if event.payload is not None:
                        ui.html(value_markup(event.payload), sanitize=False)
                    if seq in aside:
                        parts.trouble(f"Set aside: {aside[seq]}")
            if len(received) > _SHOWN:
                ui.label(f"… and {len(received) - _SHOWN:,} older ones, see Events").classes("pd-dim")


def _call_form(watch: Watch, kind: str, name: str, schema: JsonSchema | None, verb: str) -> None:
    """A form that calls an update or query handler, and shows what it answers."""
    arguments: JsonSchema = schema if schema is not None else {"type": "object"}
    fields = FormFields(arguments, {} if schema is None else None, label="Arguments by name")
    answer = ui.element("div").props('aria-live="polite"')

    async def call() -> None:
        value, good = fields.read()
        if not good:
            return
        answer.clear()
        try:
            found = await watch.desk.send("POST", run_path(watch.id, kind, name), {"kwargs": value or {}})
        except Refused as error:
            with answer:
                parts.trouble(str(error))
            return
        with answer:
            ui.html(value_markup(msgspec.json.encode(found["value"])), sanitize=False)

    with parts.row().classes("pd-right"):
        parts.button(verb, call, main=kind == "updates", allowed=watch.desk.operates)
