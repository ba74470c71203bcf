"""The timeline's tab: the drawing, its window, and what is looked for in it."""

from __future__ import annotations

import time
from typing import Any, Final

from nicegui import events, ui

from perdure.web.dashboard import parts
from perdure.web.dashboard.run.watch import Show, Watch, focus_again
from perdure.web.views.gantt_markup import drawn
from perdure.web.views.gantt_view import Window, view, whole

#: Tells of a press on anything that stands for something, unless it ended a drag.
PRESS: Final = """(event) => {
  if (Date.now() - (window.pdDragged || 0) < 300) return;
  const at = event.target.closest("[data-row], [data-seq], [data-group], [data-from]");
  if (at) emit({...at.dataset});
}"""
_DOWN: Final = """(event) => {
  const plot = event.target.closest(".pd-gantt-bars");
  if (!plot || event.button) return;
  const place = plot.getBoundingClientRect();
  window.pdDrag = {left: place.left, width: place.width, from: (event.clientX - place.left) / place.width};
}"""
_UP: Final = """(event) => {
  const drag = window.pdDrag;
  window.pdDrag = null;
  if (!drag) return;
  const to = (event.clientX - drag.left) / drag.width;
  if (Math.abs(to - drag.from) < 0.01) return;
  window.pdDragged = Date.now();
  emit({from: String(drag.from), to: String(to)});
}"""

#: Tells whether somebody points at the drawing or stands in it, and where.
_IN: Final = (
    """(event) => emit((event.target.closest("[data-row], [data-group]") || {dataset: {}}).dataset)"""
)
_OUT: Final = "() => emit()"
#: Seconds between drawings where nothing but time has passed.
_TICK: Final = 2.0


class Chart:
    """The drawing of a run's timeline, and the window that is shown of it.

    Args:
        show: called with an op id when somebody presses a row, with an event's number for a mark.
    """

    def __init__(self, watch: Watch, show: Show) -> None:
        self._watch = watch
        self._show = show
        self._window: Window | None = None  # None = all of it, as it grows
        self._opened: set[str] = set()
        self._only = ""
        self._drawn = ""
        self._drawn_at = 0.0
        self._events = -1
        self._held = 0  # how many ways somebody is at it: what is being pointed at mustn't go away
        self._focused: tuple[str, str] | None = None
        with parts.bar():
            box = ui.input(placeholder="Find in the timeline", on_change=self._find).props(
                'dense outlined clearable debounce=300 aria-label="Find in the timeline"'
            )
            box.classes("pd-find")
            with parts.row().classes("pd-tools"):
                self._tool("chevron_left", "Earlier", "[", lambda: self._move(-0.5))
                self._tool("chevron_right", "Later", "]", lambda: self._move(0.5))
                self._tool("zoom_in", "Zoom in", "+", lambda: self._zoom(0.5))
                self._tool("zoom_out", "Zoom out", "-", lambda: self._zoom(2.0))
                self._tool("fit_screen", "All of it", "0", self._all)
        self._chart = ui.html("", sanitize=False).classes("pd-gantt-box")
        self._chart.on("click", self._press, js_handler=PRESS)
        self._chart.on("pointerdown", lambda: None, js_handler=_DOWN)
        self._chart.on("pointerup", self._dragged, js_handler=_UP)
        self._chart.on("pointerenter", lambda: self._hold(1), js_handler=_OUT)
        self._chart.on("pointerleave", lambda: self._hold(-1), js_handler=_OUT)
        self._chart.on("focusin", self._enter, js_handler=_IN)
        self._chart.on("focusout", self._leave, js_handler=_OUT)
        self._more = ui.label("").classes("pd-dim")
        self.draw()

    def refresh(self) -> None:
        """Draw it anew if something has happened, or now and then while time goes on and nobody is at it."""
        if len(self._watch.log.events) == self._events:
            idle = self._watch.log.gantt.ended or self._held > 0 or self._focused is not None
            if idle or time.monotonic() - self._drawn_at < _TICK:
                return
        self.draw()

    def draw(self) -> None:
        """Draw it as it is now."""
        self._events, self._drawn_at = len(self._watch.log.events), time.monotonic()
        gantt, now = self._watch.log.gantt, self._watch.now
        window = self._window or whole(gantt, now)
        found = view(gantt, window, now, opened=self._opened, only=self._only)
        html = drawn(found)
        if html != self._drawn:
            self._drawn = html
            self._chart.set_content(html)
            if self._focused is not None:
                focus_again(*self._focused)
        told = []
        if found.hidden:
            told.append(f"{found.hidden:,} more rows here: zoom in, or look for one.")
        if not found.total:
            told.append("Nothing has been asked for yet.")
        self._more.set_text(" ".join(told))
        self._more.set_visibility(bool(told))

    def _tool(self, icon: str, text: str, key: str, press: Any) -> None:
        made = ui.button(icon=icon, on_click=press, color=None).props("flat round dense").classes("pd-tool")
        made.props(f'aria-label="{text}" data-key="{key}"').tooltip(f"{text} ({key})")

    def _hold(self, by: int) -> None:
        self._held = max(0, min(1, self._held + by))

    def _enter(self, event: events.GenericEventArguments) -> None:
        told: dict[str, str] = event.args or {}
        self._focused = next(
            ((f"data-{name}", told[name]) for name in ("row", "group") if name in told), None
        )

    def _leave(self) -> None:
        self._focused = None

    def _find(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._only = str(event.value or "").strip()
        self.draw()

    def _now(self) -> Window:
        return self._window or self._bounds()

    def _bounds(self) -> Window:
        return whole(self._watch.log.gantt, self._watch.now)

    def _set(self, window: Window) -> None:
        bounds = self._bounds()
        self._window = None if window.length >= bounds.length else window.within(bounds)
        self.draw()

    def _all(self) -> None:
        self._window = None
        self.draw()

    def _zoom(self, factor: float) -> None:
        self._set(self._now().zoomed(factor))

    def _move(self, by: float) -> None:
        if self._window is not None:
            self._set(self._window.moved(by))

    def _dragged(self, event: events.GenericEventArguments) -> None:
        self._set(self._now().part(float(event.args["from"]), float(event.args["to"])))

    def _press(self, event: events.GenericEventArguments) -> None:
        told: dict[str, str] = event.args
        if "group" in told:
            self._opened ^= {told["group"]}
            self.draw()
        elif "from" in told:
            window = self._now()
            middle, wide = (float(told["from"]) + float(told["to"])) / 2, 0.05
            self._set(window.part(middle - wide, middle + wide))
        elif told.get("row"):
            self._show(op=told["row"])
        elif "seq" in told:
            self._show(seq=int(told["seq"]))
        else:
            self._show(seq=1)
