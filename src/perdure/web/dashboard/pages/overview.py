"""How everything is, at one look. Without a run, how to start the first one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nicegui import ui

from perdure.api.keeping import DiskUsage
from perdure.api.overview import Overview, Window
from perdure.errors import NamespaceError
from perdure.web.dashboard import outlook, parts
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page, stylesheet
from perdure.web.dashboard.live import live
from perdure.web.views.disk import disk_lines

_WINDOWS: Sequence[tuple[Window, str]] = (("hour", "Hour"), ("day", "Day"), ("week", "Week"))
_FIRST = """# hello.py
from perdure import step, workflow

@step
async def greet(name: str) -> str:
    return f"Hello, {name}!"

@workflow
async def hello(name: str) -> str:
    return await greet(name)

# in a terminal
perdure run hello:hello '"world"'"""

_COLUMNS = [
    parts.Column("name", "Workflow", "link"),
    parts.Column("runs", "Runs", "number"),
    parts.Column("live", "Live", "number"),
    parts.Column("blocked", "Blocked", "number"),
    parts.Column("failed", "Failed", "number", wide=True),
    parts.Column("p50", "Half within", "number", wide=True),
    parts.Column("p95", "95 % within", "number", wide=True),
]
_WORST = {"gone": "bad", "late": "hold", "stopping": "hold", "alive": "good"}


@page("/", "Overview")
async def overview(desk: Desk, window: str = "hour") -> None:
    stylesheet(desk, "outlook.css")
    known: dict[str, Window] = {name: name for name, _ in _WINDOWS}
    chosen: Window = known.get(window, "hour")
    with parts.bar():
        parts.heading("Overview")
        with ui.element("nav").classes("pd-choices").props('aria-label="Time"'):
            for name, title in _WINDOWS:
                with parts.link(desk.url(f"/?window={name}")) as choice:
                    choice.props('aria-current="true"' if name == chosen else "")
                    ui.label(title)

    async def look() -> Overview:
        return await desk.engine.overview(chosen)

    charts = _Charts()
    found = await look()
    if not found.runs:
        _nothing(desk)
        return

    async def figures() -> list[outlook.Figure]:
        nonlocal found
        found = await look()
        charts.show(found)
        return outlook.figures(found)

    async def tables() -> tuple[object, ...]:
        return found.workflows, found.queues, found.workers, found.limits, found.budgets

    await live(desk, figures, lambda shown: _figures(desk, shown), every=3.0)
    charts.draw(found)
    await live(desk, tables, lambda _: _tables(desk, found), every=3.0)

    async def room() -> DiskUsage | None:
        try:
            return await desk.engine.disk()
        except NamespaceError:  # it is the operators' who look at all of the database
            return None

    await live(desk, room, _disk, every=60.0)


def _nothing(desk: Desk) -> None:
    with parts.card():
        parts.empty(
            "No run yet",
            "Write a workflow, start it, and it shows here. A run survives whatever happens to its process.",
            _FIRST,
        )

    async def look() -> None:
        if (await desk.engine.runs_page(size=1)).runs:
            ui.navigate.reload()

    desk.every(2.0, look)


def _figures(desk: Desk, shown: Sequence[outlook.Figure]) -> None:
    with ui.element("div").classes("pd-figures"):
        for each in shown:
            with parts.link(desk.url(each.path)).classes("pd-figure-link"):
                parts.figure(each.name, each.value, each.hint, tone=each.tone)


class _Charts:
    """The two charts, which change in place."""

    def __init__(self) -> None:
        self._ends: ui.echart | None = None
        self._lengths: ui.echart | None = None
        self._note: ui.label | None = None

    def draw(self, found: Overview) -> None:
        with ui.element("div").classes("pd-grid"):
            with parts.card("What ended"):
                self._ends = _chart(outlook.ends_chart(found), outlook.ends_told(found))
                self._note = ui.label(_counted(found.counted_since)).classes("pd-dim")
            with parts.card("How long runs take"):
                self._lengths = _chart(outlook.lengths_chart(found), "How long runs take, by workflow")
        self.show(found)

    def show(self, found: Overview) -> None:
        if self._ends is None or self._lengths is None or self._note is None:
            return
        for chart, options in (
            (self._ends, outlook.ends_chart(found)),
            (self._lengths, outlook.lengths_chart(found)),
        ):
            if chart.options != options:
                chart.options.clear()
                chart.options.update(options)
                chart.update()
        self._note.set_text(_counted(found.counted_since))
        self._note.set_visibility(found.counted_since is not None)


def _chart(options: dict[str, object], told: str) -> ui.echart:
    made = ui.echart(options, renderer="svg").classes("pd-chart")
    made._props["role"] = "img"
    made._props["aria-label"] = told
    return made


def _counted(since: datetime | None) -> str:
    return (
        ""
        if since is None
        else f"Too much ended to count it all: what ended before {parts.stamp(since)} isn't here."
    )


def _tables(desk: Desk, found: Overview) -> None:
    rows = [
        {
            **outlook.workflow_cells(load),
            **parts.link_cells("name", load.name, desk.url(f"/runs?workflow={parts.quoted(load.name)}")),
        }
        for load in found.workflows[:50]
    ]
    with parts.card("Workflows"):
        parts.table(_COLUMNS, rows, label="Workflows")
    with ui.element("div").classes("pd-grid"):
        with parts.card("Queues"):
            _lines(
                [
                    (each.name, f"{each.queued:,} wait" + _held(each.paused, each.workers), each.oldest)
                    for each in found.queues
                ],
                "No queue holds anything.",
            )
        with parts.card("Workers"):
            with ui.element("div").classes("pd-lines"):
                for state, count in sorted(found.workers.items()):
                    with parts.row():
                        with ui.element("span").classes(f"pd-badge pd-{_WORST.get(state, 'idle')}"):
                            ui.label(state)
                        ui.label(f"{count:,}").classes("pd-strong")
            if not found.workers:
                ui.label("No worker is up: nothing goes on.").classes("pd-dim")
        with parts.card("Rate limits"):
            _lines(
                [
                    (each.name, f"{each.waiting:,} wait" if each.waiting else "free", each.blocked_until)
                    for each in found.limits
                ],
                "No step has a rate limit.",
            )
        with parts.card("Budgets"):
            _lines(
                [
                    (
                        each.name + (f" ({each.owner})" if each.owner else ""),
                        f"${each.spent:.2f}" + ("" if each.usd is None else f" of ${each.usd:.2f}"),
                        None,
                    )
                    for each in found.budgets
                ],
                "No budget has been asked for money today.",
            )


def _disk(use: DiskUsage | None) -> None:
    if use is None:
        return
    with ui.element("div").classes("pd-grid"), parts.card("Disk"):
        _lines(disk_lines(use), "Nothing is known.")


def _held(paused: bool, workers: int) -> str:
    return ", paused" if paused else "" if workers else ", no worker"


def _lines(lines: Sequence[tuple[str, str, datetime | None]], none: str) -> None:
    """Names with what is to be said of them, and a moment."""
    if not lines:
        ui.label(none).classes("pd-dim")
        return
    with ui.element("div").classes("pd-lines"):
        for name, told, moment in lines[:12]:
            with parts.row():
                parts.mono(name)
                with parts.row():
                    ui.label(told)
                    if moment is not None:
                        with ui.element("span").classes("pd-dim"):
                            parts.when(moment)
