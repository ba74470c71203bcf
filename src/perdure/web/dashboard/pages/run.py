"""The page of one run: how it stands, its timeline and events as they come, and everything that can be done with it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nicegui import context, ui

from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page, stylesheet
from perdure.web.dashboard.run import forking
from perdure.web.dashboard.run.chart import Chart
from perdure.web.dashboard.run.detail import Detail
from perdure.web.dashboard.run.header import Header
from perdure.web.dashboard.run.logtab import LogTab
from perdure.web.dashboard.run.tabs import ChildrenTab, CostTab, ForksTab, LogsTab, StreamsTab, ValuesTab
from perdure.web.dashboard.run.talk import TalkTab
from perdure.web.dashboard.run.watch import Watch

_TABS: Final = (
    ("timeline", "Timeline", "1"),
    ("events", "Events", "2"),
    ("values", "Input & result", "3"),
    ("children", "Children", "4"),
    ("messages", "Messages", "5"),
    ("streams", "Streams", "6"),
    ("logs", "Logs", "7"),
    ("cost", "Cost", "8"),
    ("forks", "Forks", "9"),
)
#: Seconds between looks for what is new.
_EVERY = 0.5


@page("/runs/{id:path}", "Run")
async def run(desk: Desk, id: str, generation: int | None = None, tab: str = "timeline") -> None:
    stylesheet(desk, "run.css")
    watch = Watch(desk, id, generation)
    await watch.load()
    ui.page_title(f"{id} · Perdure")
    shown = _Page(watch, tab if any(tab == name for name, _, _ in _TABS) else "timeline")
    await shown.refresh()
    watch.follow()
    desk.every(_EVERY, shown.refresh)


class _Page:
    def __init__(self, watch: Watch, tab: str) -> None:
        self._watch = watch
        self._detail: Detail
        self._header_drawn = -1
        self._drawing = asyncio.Lock()  # a part that is drawn twice at once would show things twice
        self._generation = watch.info.generation
        self._parts: dict[str, Any] = {}
        with ui.element("div").classes("pd-stack"):
            self._header = Header(watch, self._after, lambda: forking.ask(watch), self._go, self._decide)
        with ui.tabs(on_change=self._turn).classes("pd-tabs") as self._tabs:
            self._tabs.props(
                'dense no-caps align="left" outside-arrows mobile-arrows aria-label="Parts of the run"'
            )
            for name, title, key in _TABS:
                ui.tab(name, title).props(f'data-key="{key}"')
        self._tabs.value = tab
        self._panels = {
            name: ui.element("div").classes("pd-stack").props('role="tabpanel"') for name, _, _ in _TABS
        }
        self._detail = Detail(watch)
        self._show(tab)

    async def refresh(self) -> None:
        """Draw what has changed."""
        async with self._drawing:
            await self._refresh()

    async def _refresh(self) -> None:
        watch = self._watch
        await watch.refresh()
        if watch.pinned is None and watch.info.generation != self._generation:
            ui.navigate.reload()  # it was retried, or has continued: that is another history
            return
        ending = watch.info.status.final
        changed = watch.version != self._header_drawn
        if changed:
            self._header_drawn = watch.version
            self._header.refresh()
        self._header.tick()
        if not changed and ending and self._tabs.value in ("timeline", "events", "values"):
            return
        await self._draw(str(self._tabs.value))

    async def _draw(self, tab: str) -> None:
        outcome = self._parts[tab].refresh()
        if outcome is not None:
            await outcome

    async def _after(self) -> None:
        self._watch.look_soon()
        await self.refresh()

    def _decide(self, op: str) -> None:
        self._detail.show(op=op)

    def _go(self, tab: str) -> None:
        self._tabs.value = tab

    async def _turn(self) -> None:
        name = str(self._tabs.value)
        self._show(name)
        query = "" if name == "timeline" else f"?tab={name}"
        if self._watch.pinned is not None:
            query += f"{'&' if query else '?'}generation={self._watch.pinned}"
        path = str(context.client.request.url.path)
        ui.navigate.history.replace(path + query)
        async with self._drawing:
            await self._draw(name)

    def _show(self, name: str) -> None:
        """Show a tab; it is made when it is looked at for the first time."""
        for other, panel in self._panels.items():
            panel.set_visibility(other == name)
        if name not in self._parts:
            with self._panels[name]:
                self._parts[name] = self._made(name)

    def _made(self, name: str) -> Any:
        watch, show = self._watch, self._detail.show
        match name:
            case "timeline":
                return Chart(watch, show)
            case "events":
                return LogTab(watch, show)
            case "values":
                return ValuesTab(watch)
            case "children":
                return ChildrenTab(watch)
            case "messages":
                return TalkTab(watch)
            case "streams":
                return StreamsTab(watch)
            case "logs":
                return LogsTab(watch)
            case "cost":
                return CostTab(watch)
            case _:
                return ForksTab(watch)
