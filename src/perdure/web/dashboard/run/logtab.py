"""The tab of events: the history line by line."""

from __future__ import annotations

from typing import Any

from nicegui import events, ui

from perdure.web.dashboard import parts
from perdure.web.dashboard.run.chart import PRESS
from perdure.web.dashboard.run.watch import Show, Watch
from perdure.web.views.runlog import log_page


class LogTab:
    """The log of a run's events, page by page.

    Args:
        show: called with the number of an event that somebody presses.
    """

    def __init__(self, watch: Watch, show: Show) -> None:
        self._watch = watch
        self._only = ""
        self._page = 0
        self._newest_first = False
        self._html = ""
        with parts.bar():
            box = ui.input(placeholder="Find events", on_change=self._find).props(
                'dense outlined clearable debounce=300 aria-label="Find events"'
            )
            box.classes("pd-find")
            with parts.row():
                self._count = ui.label("").classes("pd-dim")
                self._order = parts.button("Newest first", self._turn, icon="swap_vert")
        self._list = ui.html("", sanitize=False).classes("pd-log-box")
        self._list.on("click", lambda event: show(seq=int(event.args["seq"])), js_handler=PRESS)
        with parts.row().classes("pd-right") as self._pager:
            parts.button("Before", lambda: self._go(-1), icon="chevron_left")
            self._where = ui.label("")
            parts.button("Next", lambda: self._go(1), icon="chevron_right")
        self.refresh()

    def refresh(self) -> None:
        """Draw it as it is now."""
        found = log_page(self._watch.log, self._page, only=self._only, newest_first=self._newest_first)
        self._page = found.page
        if found.html != self._html:
            self._html = found.html
            self._list.set_content(found.html)
        total = len(self._watch.log.events)
        self._count.set_text(
            f"{total:,} events" if found.found == total else f"{found.found:,} of {total:,} events"
        )
        self._where.set_text(f"{found.page + 1:,} of {found.pages:,}")
        self._pager.set_visibility(found.pages > 1)

    def _find(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._only, self._page = str(event.value or "").strip(), 0
        self.refresh()

    def _turn(self) -> None:
        self._newest_first, self._page = not self._newest_first, 0
        self._order.set_text("Oldest first" if self._newest_first else "Newest first")
        self.refresh()

    def _go(self, by: int) -> None:
        self._page += by
        self.refresh()
