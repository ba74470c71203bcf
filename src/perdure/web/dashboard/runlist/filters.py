"""What the list of runs leaves out: fields and chips that show what the address says, and change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from nicegui import ui

from perdure.web.dashboard import parts
from perdure.web.views.runlist import STATUSES, WINDOWS, Wanted

_BETWEEN: Final = "between"  #: of the field for time: what the fields for two moments say


class Filters:
    """The fields above the list.

    Args:
        go: shows another list.
    """

    def __init__(self, wanted: Wanted, go: Callable[[Wanted], Awaitable[None]]) -> None:
        self._wanted = wanted
        self._go = go
        self._showing = False
        self._chips: dict[str, ui.element] = {}
        with ui.element("section").classes("pd-filters").props('aria-label="Filters"'):
            with ui.element("div").classes("pd-chips").props('role="group" aria-label="Status"'):
                for status in STATUSES:
                    self._chips[status.value] = self._chip(status.value)
            with ui.element("div").classes("pd-filter-fields"):
                self._text = self._field("Text in the id or reason").props("debounce=400 clearable")
                self._text.on_value_change(self._typed)
                self._workflow = ui.select([], label="Workflow", with_input=True, clearable=True)
                self._workflow.props("outlined dense options-dense hide-bottom-space").classes("pd-filter")
                self._workflow.on_value_change(self._typed)
                self._window = ui.select({}, label="Started").classes("pd-filter")
                self._window.props("outlined dense options-dense hide-bottom-space")
                self._window.on_value_change(self._typed)
                self._since = self._field("From (UTC)").props("type=datetime-local stack-label debounce=400")
                self._until = self._field("To (UTC)").props("type=datetime-local stack-label debounce=400")
                for field in (self._since, self._until):
                    field.on_value_change(self._typed)
                self._attribute = self._field("Attribute, as in total>=100")
                self._attribute.on("keydown.enter", self._add)
            with (
                ui.element("div").classes("pd-chips pd-conditions").props('role="group"') as self._conditions
            ):
                pass
        self.show(wanted)

    def offer(self, workflows: Sequence[str]) -> None:
        """Let these workflows be chosen."""
        names = list(dict.fromkeys([*workflows, *filter(None, [self._wanted.workflow])]))
        if names != self._workflow.options:
            self._workflow.set_options(names)

    def show(self, wanted: Wanted) -> None:
        """Show what is listed now, without listing it anew."""
        self._showing = True
        try:
            self._wanted = wanted
            for status, chip in self._chips.items():
                chip.props(f'aria-pressed="{"true" if status in wanted.statuses else "false"}"')
            self._text.value = wanted.text
            if wanted.workflow and wanted.workflow not in self._workflow.options:
                self._workflow.set_options([*self._workflow.options, wanted.workflow])
            self._workflow.value = wanted.workflow or None
            between = bool(wanted.since or wanted.until) and not wanted.within
            if between or self._window.value != _BETWEEN or wanted.within:
                choices = {key: told for key, (told, _) in WINDOWS.items()} | {
                    _BETWEEN: "Between two moments"
                }
                self._window.set_options(choices, value=_BETWEEN if between else wanted.within)
            self._since.value, self._until.value = wanted.since[:16], wanted.until[:16]
            self._moments()
            self._show_conditions()
        finally:
            self._showing = False

    # -- pieces -------------------------------------------------------------------------------------

    def _field(self, label: str) -> ui.input:
        return ui.input(label).props("outlined dense hide-bottom-space spellcheck=false").classes("pd-filter")

    def _chip(self, status: str) -> ui.element:
        made = ui.element("button").props('type="button"').classes("pd-chip")
        made.on("click", lambda: self._go(self._wanted.toggled(status)))
        with made:
            ui.element("span").classes(f"pd-dot pd-{parts.TONES[status]}").props('aria-hidden="true"')
            ui.label(status)
        return made

    def _show_conditions(self) -> None:
        self._conditions.clear()
        self._conditions.set_visibility(self._wanted.filtered)
        with self._conditions:
            for text in self._wanted.attributes:
                made = ui.element("button").classes("pd-chip pd-chip-on")
                made.props('type="button"')
                made.props["aria-label"] = f"Remove the condition {text}"
                made.on("click", partial(self._without, text))
                with made:
                    ui.label(text)
                    ui.icon("close").props('aria-hidden="true"')
            with ui.element("button").props('type="button"').classes("pd-chip") as clear:
                ui.label("Clear all filters")
            clear.on("click", lambda: self._go(Wanted()))

    def _moments(self) -> None:
        between = self._window.value == _BETWEEN
        self._since.set_visibility(between)
        self._until.set_visibility(between)

    # -- what somebody does -------------------------------------------------------------------------

    async def _typed(self) -> None:
        if self._showing:
            return
        self._moments()
        between = self._window.value == _BETWEEN
        wanted = replace(
            self._wanted,
            text=str(self._text.value or "").strip(),
            workflow=str(self._workflow.value or ""),
            within="" if between else str(self._window.value or ""),
            since=str(self._since.value or "") if between else "",
            until=str(self._until.value or "") if between else "",
            cursor="",
        )
        if wanted != replace(self._wanted, cursor=""):
            await self._go(wanted)

    async def _add(self, _: Any) -> None:
        text = str(self._attribute.value or "").strip()
        if not text:
            return
        wanted = Wanted.read(replace(Wanted(), attributes=(text,)).address.partition("?")[2])
        if not wanted.attributes:
            self._attribute.props('error error-message="Give name=value, or name>=value"')
            return
        self._attribute.props(remove="error error-message")
        self._attribute.value = ""
        await self._go(
            replace(self._wanted, attributes=(*self._wanted.attributes, *wanted.attributes), cursor="")
        )

    async def _without(self, text: str) -> None:
        left = tuple(each for each in self._wanted.attributes if each != text)
        await self._go(replace(self._wanted, attributes=left, cursor=""))
