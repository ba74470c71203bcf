"""The smaller tabs of a run's page: input and result, child runs, streams, what steps have logged, cost."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import msgspec
from nicegui import background_tasks, context, ui

from perdure.api.runinfo import RunInfo
from perdure.api.steplogs import STREAM, LogLine
from perdure.api.streams import StreamItem
from perdure.core import events as ev
from perdure.errors import PerdureError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import run_path
from perdure.web.dashboard.run.header import money
from perdure.web.dashboard.run.watch import Watch
from perdure.web.views.gantt_rows import Row
from perdure.web.views.markup import text_of
from perdure.web.views.runlog import input_of
from perdure.web.views.values import call_markup, failure_markup, value_markup

CHILDREN_SHOWN: Final = 200
ITEMS_SHOWN: Final = 1000
LINES_SHOWN: Final = 1000
_LEVELS: Final = {"WARNING": "hold", "ERROR": "bad", "CRITICAL": "bad", "DEBUG": "idle"}


class ValuesTab:
    """What the run was given, and what has come of it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        with ui.element("div").classes("pd-pair"):
            with parts.card("Input"):
                ui.html(call_markup(input_of(watch.log.events)), sanitize=False)
            self._result = parts.card("Result")
        self._shown: object = self

    async def refresh(self) -> None:
        final = self._watch.log.final
        if final is self._shown:
            return
        self._shown = final
        self._result.clear()
        with self._result:
            parts.heading("Result", level=2)
            match final:
                case ev.RunCompleted():
                    ui.html(value_markup(final.result), sanitize=False)
                case ev.RunFailed():
                    ui.html(failure_markup(final.failure), sanitize=False)
                case ev.RunContinued():
                    ui.label(f"It goes on as {final.workflow}, with this:")
                    ui.html(call_markup(final.input), sanitize=False)
                case None:
                    parts.empty("Not yet", "The result is shown here when the run has ended.")
                case _:
                    ui.label(self._watch.info.status.value)
                    if final.reason:
                        parts.text_block(final.reason)


class ChildrenTab:
    """The runs that this one has started, and theirs."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._box = ui.element("div").classes("pd-card")
        self._shown: object = None

    async def refresh(self) -> None:
        rows = [row for row in self._watch.log.gantt.rows.values() if row.run]
        shown = tuple((row.id, row.tone) for row in rows)
        if shown == self._shown:
            return
        self._shown = shown
        self._box.clear()
        with self._box:
            if not rows:
                parts.empty(
                    "No child runs", "What a workflow starts with perdure.start or by awaiting a workflow."
                )
            await _children(self._watch, [(row.run, row) for row in rows])


async def _children(watch: Watch, rows: list[tuple[str, Row]]) -> None:
    infos = await _look_up(watch, [id for id, _ in rows[:CHILDREN_SHOWN]])
    with ui.element("ul").classes("pd-tree"):
        for id, row in rows[:CHILDREN_SHOWN]:
            with ui.element("li"):
                with parts.row():
                    parts.link(watch.desk.url(run_path(id)), id)
                    found = infos.get(id)
                    if found is not None:
                        parts.status(found)
                    ui.label(row.name if row.kind == "child" else f"step {row.id}").classes("pd-dim")
                    if row.kind == "child":
                        _opener(watch, id)
    if len(rows) > CHILDREN_SHOWN:
        ui.label(f"… and {len(rows) - CHILDREN_SHOWN:,} more, see Timeline").classes("pd-dim")


def _opener(watch: Watch, id: str) -> None:
    """A button that shows the children of a child."""
    holder = ui.element("div").classes("pd-tree-inner")
    opened = [False]

    async def turn() -> None:
        opened[0] = not opened[0]
        button.props(f'icon="{"expand_less" if opened[0] else "expand_more"}"')
        holder.clear()
        if not opened[0]:
            return
        rows: list[tuple[str, Row]] = []
        try:
            async for event in watch.desk.engine.get(id).history():
                if isinstance(event, ev.ChildStarted) and len(rows) <= CHILDREN_SHOWN:
                    rows.append(
                        (event.run, Row(event.child, "child", event.workflow, "idle", 0.0, 0.0, 0, 0))
                    )
        except PerdureError as error:
            with holder:
                parts.trouble(str(error))
            return
        with holder:
            if rows:
                await _children(watch, rows)
            else:
                ui.label("no child runs").classes("pd-dim")

    button = ui.button(icon="expand_more", on_click=turn, color=None).props("flat round dense")
    button._props["aria-label"] = f"Child runs of {id}"


async def _look_up(watch: Watch, ids: list[str]) -> dict[str, str]:
    async def one(id: str) -> tuple[str, str | None]:
        try:
            return id, (await watch.desk.engine.get(id).status()).value
        except PerdureError:
            return id, None

    found = await asyncio.gather(*(one(id) for id in ids))
    return {id: status for id, status in found if status is not None}


class StreamsTab:
    """What the run puts out while it goes on, live."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._names: list[str] = []
        self._task: asyncio.Task[Any] | None = None
        self._items: deque[StreamItem[Any]] = deque(maxlen=ITEMS_SHOWN)
        self._count = 0
        self._drawn = -1
        self._empty = ui.element("div").classes("pd-card")
        with self._empty:
            parts.empty(
                "No streams", "What workflows and steps put out with perdure.emit is shown here as it comes."
            )
        with parts.row() as self._bar:
            self._choice = ui.select([], label="Stream", on_change=lambda: self._begin())
            self._choice.props("outlined dense stack-label").classes("pd-find")
            self._told = ui.label("").classes("pd-dim")
        self._box = ui.element("pre").classes("pd-block pd-stream").props('tabindex="0" aria-live="off"')
        with self._box:
            self._text = ui.label("")
        context.client.on_delete(self._stop)

    async def refresh(self) -> None:
        names = [name for name, _ in await self._watch.handle.streams() if name != STREAM]
        self._empty.set_visibility(not names)
        self._bar.set_visibility(bool(names))
        self._box.set_visibility(bool(names))
        if names != self._names:
            self._names = names
            self._choice.set_options(names, value=self._choice.value or (names[0] if names else None))
        if self._count != self._drawn:
            self._drawn = self._count
            self._text.set_text(shown_items(list(self._items)))
            more = f", the newest {ITEMS_SHOWN:,} of them here" if self._count > ITEMS_SHOWN else ""
            self._told.set_text(f"{self._count:,} items{more}")

    def _begin(self) -> None:
        self._stop()
        self._items.clear()
        self._count, self._drawn = 0, -1
        if self._choice.value:
            self._task = background_tasks.create(self._read(str(self._choice.value)), name="read a stream")

    def _stop(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def _read(self, name: str) -> None:
        try:
            async for item in self._watch.handle.stream(name):
                if item.since is not None:
                    kept = [
                        each for each in self._items if each.step != item.step or each.offset < item.since
                    ]
                    self._items.clear()
                    self._items.extend(kept)
                else:
                    self._items.append(item)
                self._count += 1
        except PerdureError:
            return


def shown_items(items: list[StreamItem[Any]]) -> str:
    """Items of a stream as a text: texts one after another, as tokens are; else a line each."""
    if items and all(isinstance(item.value, str) for item in items):
        joined = "".join(item.value for item in items)
        if any(len(item.value) < 24 for item in items):
            return text_of(joined)
        return text_of("\n".join(item.value for item in items))
    return "\n".join(text_of(msgspec.json.encode(item.value).decode()) for item in items)


class LogsTab:
    """What the run's steps have logged."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._after = 0
        self._count = 0
        self._empty = ui.element("div").classes("pd-card")
        with self._empty:
            parts.empty(
                "No lines are kept",
                "`perdure dev` keeps what steps log; of other workers it is kept where their code says so.",
                "logging.getLogger().addHandler(perdure.StepLogHandler())",
            )
        self._list = ui.element("ol").classes("pd-log pd-step-logs")
        self._list.set_visibility(False)

    async def refresh(self) -> None:
        async for line in self._watch.handle.step_logs(self._after):
            self._after = line.offset
            self._count += 1
            if self._count <= LINES_SHOWN:
                with self._list:
                    _log_line(line)
            elif self._count == LINES_SHOWN + 1:
                with self._list, ui.element("li"):
                    ui.label("More than that is shown by `perdure logs`.").classes("pd-dim")
        if self._count:
            self._empty.set_visibility(False)
            self._list.set_visibility(True)


def _log_line(line: LogLine) -> None:
    with ui.element("li").classes("pd-step-log"):
        parts.when(line.at)
        with ui.element("span").classes(f"pd-badge pd-{_LEVELS.get(line.level, 'busy')}"):
            ui.label(line.level.lower())
        ui.label(line.step + (f" · attempt {line.attempt}" if line.attempt > 1 else "")).classes(
            "pd-dim pd-mono"
        )
        ui.label(text_of(line.text)).classes("pd-step-log-text")
        if line.error:
            parts.text_block(text_of(line.error.rstrip()))


class CostTab:
    """What the run and all that it has started have spent on language models."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._box = ui.element("div").classes("pd-stack")
        self._shown: object = None

    async def refresh(self) -> None:
        usage = self._watch.usage
        if usage == self._shown:
            return
        self._shown = usage
        engine, id = self._watch.desk.engine, self._watch.id
        by_step = await engine.usage("step", run=id)
        by_model = await engine.usage("model", run=id)
        self._box.clear()
        with self._box:
            if not (usage.calls or usage.unknown_calls or usage.saved_calls or usage.calls_in_flight):
                with ui.element("div").classes("pd-card"):
                    parts.empty(
                        "Nothing was spent", "Calls of language models, and what perdure.record_usage tells."
                    )
                return
            with ui.element("div").classes("pd-figures"):
                parts.figure("Cost", money(usage).split(" + ")[0], money(usage).partition(" + ")[2])
                parts.figure("Calls", f"{usage.calls:,}", f"{usage.calls_in_flight} going on")
                parts.figure("Tokens in", f"{usage.input_tokens:,}", f"{usage.cached_tokens:,} cached")
                parts.figure("Tokens out", f"{usage.output_tokens:,}", f"{usage.reasoning_tokens:,} thought")
                parts.figure(
                    "Saved", f"${usage.saved_cost.normalize():f}", f"{usage.saved_calls} calls not made again"
                )
            for title, lines in (("By step", by_step), ("By model", by_model)):
                columns = [
                    parts.Column("name", title.removeprefix("By ").capitalize(), "mono"),
                    parts.Column("calls", "Calls", "number"),
                    parts.Column("tokens", "Tokens", "number", wide=True),
                    parts.Column("cost", "Cost", "number"),
                ]
                rows = [
                    {
                        "name": line.name or "unknown",
                        "calls": f"{line.usage.calls:,}",
                        "tokens": f"{line.usage.total_tokens:,}",
                        "cost": money(line.usage),
                    }
                    for line in lines
                ]
                parts.table(columns, rows, label=title, key="name")


class ForksTab:
    """Where the run comes from, if it is a fork; and the forks that go on from it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._box = ui.element("div").classes("pd-stack")
        self._shown: object = None

    async def refresh(self) -> None:
        watch = self._watch
        found = [
            run
            async for run in watch.desk.engine.runs(text=f"{watch.id}-fork-", limit=100)
            if run.id.startswith(f"{watch.id}-fork-")
        ]
        shown = tuple((run.id, run.status) for run in found)
        if shown == self._shown:
            return
        self._shown = shown
        self._box.clear()
        with self._box:
            started = watch.log.started
            if started is not None and started.donor is not None and started.donor.run != watch.id:
                await self._origin(started.donor)
            with ui.element("div").classes("pd-card"):
                parts.heading("Forks of this run", level=2)
                if not found:
                    parts.empty(
                        "No forks", "Fork the run from an event, a step or as a whole, with other results."
                    )
                else:
                    _runs(watch, found)

    async def _origin(self, donor: ev.Donor) -> None:
        watch = self._watch
        with parts.card("It goes on from another run"):
            facts: list[tuple[str, Any]] = [
                ("Run", lambda: parts.link(watch.desk.url(run_path(donor.run)), donor.run)),
                (
                    "Taken over",
                    "whatever was there" if donor.upto is None else f"what was before event {donor.upto}",
                ),
            ]
            if donor.counterfactual is not None:
                facts.append(("Effects", "withheld: it acts on nobody"))
            if donor.results:
                facts.append(("Other results", ", ".join(donor.results)))
            if donor.inputs:
                facts.append(("Other arguments", ", ".join(donor.inputs)))
            parts.facts(facts)
            try:
                told = await watch.desk.engine.diff(donor.run, watch.id)
            except PerdureError as error:
                parts.trouble(str(error))
                return
            for step in told.changed[:20]:
                with parts.row():
                    side = step.b or step.a
                    ui.label("differs").classes("pd-badge pd-hold")
                    parts.mono("" if side is None else side.id)


def _runs(watch: Watch, runs: list[RunInfo]) -> None:
    columns = [
        parts.Column("id", "Run", "link"),
        parts.Column("status", "Status", "status"),
        parts.Column("created", "Created", "time"),
    ]
    rows = [
        {
            **parts.link_cells("id", run.id, watch.desk.url(run_path(run.id))),
            **parts.status_cells("status", run.status.value),
            **parts.time_cells("created", run.created_at),
        }
        for run in runs
    ]
    parts.table(columns, rows, label="Forks")
