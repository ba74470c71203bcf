"""Time travel: a slider over a run's history; at each event its code, with the lines marked, and its variables.

What is asked for last is shown; what was asked for meanwhile is passed over. So a slider that is drawn along never
falls behind.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from nicegui import ui
from nicegui.events import GenericEventArguments

from perdure.api.lines import Line, timeline
from perdure.codec.shown import shown
from perdure.core.events import Event
from perdure.core.standing import Standing
from perdure.errors import NoCodeError, PerdureError, TravelError, UnknownRunError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import page
from perdure.web.views import past
from perdure.web.views.past_source import Sources

_PLAY: Final = 0.4  # seconds that an event is shown
_WHOLE: Final = 150  # events that are shown at most when a long history is played
_LOOK: Final = 2.0  # seconds between looks for new events

#: Tells what was pressed inside of a drawing: the data- attributes of the element.
_PRESSED: Final = (
    "(event) => { const found = event.target.closest('[data-seq], [data-task], [data-change]'); "
    "if (found) emit({...found.dataset}); }"
)


@page("/runs/{id:path}/travel", "Time travel")
async def travel(desk: Desk, id: str, seq: int | None = None, generation: int | None = None) -> None:
    ui.page_title(f"Time travel · {id} · Perdure")
    base = desk.url("/assets")
    ui.add_head_html(f'<link rel="stylesheet" href="{parts.attribute(base)}/travel.css">')
    ui.add_head_html(f'<script defer src="{parts.attribute(base)}/travel.js"></script>')
    info = await desk.engine.get(id).info(generation=generation)
    with parts.bar():
        with parts.row():
            parts.heading("Time travel")
            parts.link(desk.url(run_path(id)), id)
            parts.status(info.status)
        if info.generation > 1 or generation is not None:
            _generations(desk, id, info.generation)
    journey = _Journey(desk, id, info.generation, live=not info.status.final)
    await journey.begin(seq)


def _generations(desk: Desk, id: str, shown: int) -> None:
    with parts.row():
        ui.label(f"Generation {shown}").classes("pd-dim")
        if shown > 1:
            path = run_path(id, "travel") + f"?generation={shown - 1}"
            parts.link(desk.url(path), f"See generation {shown - 1}")
        parts.link(desk.url(run_path(id, "travel")), "See the newest")


class _Journey:
    """The page: which event is shown, and what is drawn of it."""

    def __init__(self, desk: Desk, id: str, generation: int, *, live: bool) -> None:
        self._desk = desk
        self._handle = desk.engine.get(id)
        self._path = desk.url(run_path(id, "travel"))
        self._generation = generation
        self._live = live
        self._events: list[Event] = []
        self._lines: list[Line] = []
        self._found: list[int] = []
        self._text = ""
        self._wanted = self._shown = 0
        self._busy = False
        self._standing: Standing | None = None
        self._pinned: int | None = None
        self._chosen: int | None = None
        self._sources = Sources()

    # -- drawing ------------------------------------------------------------------------------------

    async def begin(self, seq: int | None) -> None:
        """Draw the page, at this event or the last one."""
        await self._read()
        self._draw()
        first = max(1, min(len(self._events) if seq is None else seq, len(self._events)))
        self._wanted = first
        self._mark(first)
        self._code.content = past.waiting()
        # A process that has to import the code first may take a while: the page is there before that.
        ui.timer(0, lambda: self.go(self._wanted), once=True)
        ui.timer(_PLAY, self._tick, immediate=False)
        if self._live:
            self._desk.every(_LOOK, self._look)

    def _draw(self) -> None:
        with (
            ui.element("section")
            .classes("pd-card pd-tt-transport")
            .props('aria-label="Where in the history"')
        ):
            self._film = self._html(past.film([past.tone(line) for line in self._lines]))
            self._slider = ui.slider(min=1, max=len(self._events), step=1, value=1)
            # Not `on_change`, which tells of what is set here, too: the slider would argue with itself.
            self._slider.on("update:model-value", self._slid, throttle=0.05)
            self._slider.props('aria-label="Event" :markers="false"').classes("pd-tt-slider")
            with ui.element("div").classes("pd-tt-controls"):
                with ui.element("div").classes("pd-tt-buttons"):
                    self._button("first_page", "First event", "Home", lambda: self.go(1))
                    self._button(
                        "chevron_left", "Event before", "ArrowLeft", lambda: self.go(self._wanted - 1)
                    )
                    self._player = self._button("play_arrow", "Play", "p", self._play)
                    self._button(
                        "chevron_right", "Next event", "ArrowRight", lambda: self.go(self._wanted + 1)
                    )
                    self._button("last_page", "Last event", "End", lambda: self.go(len(self._events)))
                self._now = self._html()
                self._now.props('role="status" aria-live="polite"')
        self._trouble = ui.element("div").classes("pd-tt-trouble")
        self._stop = self._html()
        self._tasks = self._html()
        with ui.element("div").classes("pd-tt-grid"):
            with ui.element("section").classes("pd-card pd-tt-list").props('aria-label="Events"'):
                parts.heading("Events", level=2)
                self._search = ui.input(placeholder="Find an event or a step", on_change=self._searched)
                self._search.props(
                    'dense outlined clearable aria-label="Find an event" data-key="e" spellcheck=false'
                )
                self._search.on("keydown.enter", self._next_found)
                self._list = self._html()
            with ui.element("section").classes("pd-card pd-tt-code-card").props('aria-label="Source"'):
                parts.heading("Source", level=2)
                with (
                    ui.element("div")
                    .classes("pd-tt-scroll")
                    .props('tabindex="0" role="group" aria-label="Source code"')
                ):
                    self._code = self._html()
            with ui.element("section").classes("pd-card pd-tt-values").props('aria-label="Variables"'):
                parts.heading("Variables", level=2)
                with ui.element("div").classes("pd-tt-scroll"):
                    self._variables = self._html()

    def _html(self, content: str = "") -> ui.html:
        """A part whose markup this page makes; what is pressed in there is told."""
        made = ui.html(content, sanitize=False).classes("pd-tt-part")
        made.on("click", self._pressed, js_handler=_PRESSED)
        return made

    def _button(self, icon: str, label: str, key: str, press: Any) -> ui.button:
        made = ui.button(icon=icon, on_click=press, color=None).props("flat round dense :ripple=false")
        made.props(f'aria-label="{label}" data-key="{key}"')
        made.tooltip(f"{label} ({key.replace('Arrow', '').lower() if len(key) > 1 else key})")
        return made

    # -- going --------------------------------------------------------------------------------------

    async def go(self, seq: int) -> None:
        """Show the run after this event. If others are asked for meanwhile, only the last of them is shown."""
        self._wanted = max(1, min(seq, len(self._events)))
        if self._busy:
            return
        self._busy = True
        try:
            while self._shown != self._wanted:
                await self._show(self._wanted)
        finally:
            self._busy = False

    async def _show(self, seq: int) -> None:
        generation = self._generation
        try:
            standing = await self._handle.at(seq, generation=generation)
            before = (
                await self._handle.at(seq - 1, generation=generation)
                if seq > 1 and not standing.stop
                else None
            )
        except PerdureError as error:
            self._shown = seq
            self._failed(error)
            self._mark(seq)
            return
        self._shown = seq
        self._standing = standing
        self._trouble.clear()
        self._chosen = past.chosen_task(standing, before, self._pinned, self._chosen)
        self._mark(seq)
        self._stop.content = past.stopped(standing)
        self._tasks.content = past.tasks_list(standing, self._chosen, self._pinned)
        self._code.content = self._sources.drawn(standing, self._chosen)
        self._variables.content = past.variables_list(standing, before, self._chosen)

    def _mark(self, seq: int) -> None:
        """Where in the history that is."""
        line = self._lines[seq - 1]
        self._now.content = past.current_event(line, seq, len(self._lines))
        self._list.content = past.events_list(self._lines, seq, self._found)
        if seq == self._wanted:  # else somebody has moved it on already
            self._slider.value = seq
        more = f"&generation={self._generation}" if self._generation > 1 else ""
        if self._shown:
            ui.navigate.history.replace(f"{self._path}?seq={seq}{more}")

    def _failed(self, error: PerdureError) -> None:
        self._trouble.clear()
        for part in (self._stop, self._tasks, self._code, self._variables):
            part.content = ""
        with self._trouble:
            if isinstance(error, NoCodeError):
                parts.empty("The code of this run isn't here", str(error), "perdure serve --module MODULE")
            else:
                parts.trouble(str(error))
        if not isinstance(error, NoCodeError | TravelError | UnknownRunError):
            raise error

    async def _again(self) -> None:
        self._shown = 0
        await self.go(self._wanted)

    # -- what people do -----------------------------------------------------------------------------

    async def _slid(self, event: GenericEventArguments) -> None:
        if isinstance(event.args, int | float):
            await self.go(int(event.args))

    async def _pressed(self, event: GenericEventArguments) -> None:
        told: dict[str, str] = event.args if isinstance(event.args, dict) else {}
        if (seq := _number(told.get("seq"))) is not None:
            await self.go(seq)
        elif (task := _number(told.get("task"))) is not None:
            self._pinned = None if self._pinned == task else task
            await self._again()
        elif (frame := _number(told.get("frame"))) is not None and self._chosen is not None:
            way: Literal["next", "previous"] = "previous" if told.get("change") == "previous" else "next"
            await self._jump(str(told.get("name", "")), self._chosen, frame, way)

    async def _jump(self, name: str, task: int, frame: int, way: Literal["next", "previous"]) -> None:
        try:
            found = await self._handle.change_of(
                name, self._shown, task=task, frame=frame, direction=way, generation=self._generation
            )
        except PerdureError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        if found is None:
            ui.notify(f"{name} doesn't change {'before' if way == 'previous' else 'after'} this event.")
            return
        self._pinned = task
        await self.go(found)

    def _searched(self, event: Any) -> None:
        self._text = str(event.value or "")
        self._found = past.matching(self._lines, self._text)
        self._list.content = past.events_list(self._lines, self._shown, self._found)

    async def _next_found(self) -> None:
        later = next((number for number in self._found if number > self._shown), None)
        if later is None:
            later = self._found[0] if self._found else None
        if later is not None:
            await self.go(later)

    # -- playing ------------------------------------------------------------------------------------

    async def _play(self) -> None:
        self._set_playing(not self._playing)
        if self._playing and self._wanted >= len(self._events):
            await self.go(1)

    _playing = False

    def _set_playing(self, on: bool) -> None:
        self._playing = on
        self._player.props(f'icon={"pause" if on else "play_arrow"} aria-label="{"Pause" if on else "Play"}"')

    async def _tick(self) -> None:
        if self._playing and not self._busy:
            stride = max(1, len(self._events) // _WHOLE)
            await self.go(self._wanted + stride)
            if self._wanted >= len(self._events):
                self._set_playing(False)

    # -- a run that goes on -------------------------------------------------------------------------

    async def _read(self) -> None:
        async for event in self._handle.history(generation=self._generation, after=len(self._events)):
            self._events.append(shown(event))
        self._lines = timeline(self._events)
        self._found = past.matching(self._lines, self._text)

    async def _look(self) -> None:
        count = len(self._events)
        await self._read()
        if len(self._events) == count:
            return
        self._film.content = past.film([past.tone(line) for line in self._lines])
        self._slider.props(f"max={len(self._events)}")
        if self._wanted == count and not self._playing:
            await self.go(len(self._events))
        else:
            self._mark(self._shown)


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else None
