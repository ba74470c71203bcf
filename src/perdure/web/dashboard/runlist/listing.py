"""The table of runs: a page of it, kept up to date. What somebody reads doesn't move away under their eyes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from nicegui import ui

from perdure.api.runinfo import RunInfo
from perdure.codec.redaction import mask
from perdure.core.events_endings import RunFailed
from perdure.core.status import Status
from perdure.errors import PerdureError
from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import show_early
from perdure.web.dashboard.runlist.bulk import do_after_asking, gathered
from perdure.web.dashboard.runlist.filters import Filters
from perdure.web.dashboard.runlist.starting import StartDialog
from perdure.web.views.runlist import (
    DEEDS,
    NEWS,
    SIZE,
    Deed,
    Wanted,
    arranged,
    counted,
    lasted,
    runs_told,
    waits_for,
)

EVERY: Final = 2.0  #: seconds between looks
_READ_MAX: Final = 2_000  #: longer histories aren't read for what a run waits for

_COLUMNS: Final = (
    parts.Column("id", "Run", "link"),
    parts.Column("workflow", "Workflow", wide=True),
    parts.Column("status", "Status", "status"),
    parts.Column("created", "Started", "time"),
    parts.Column("lasted", "Took", "time", wide=True),
    parts.Column("updated", "Last event", "time", wide=True),
    parts.Column("cost", "Cost", "number", wide=True),
    parts.Column("queue", "Queue", wide=True),
)
#: The person sees the list's beginning and has nothing in hand there, so that new rows disturb nobody.
_AT_THE_TOP: Final = "window.scrollY < 60 && !document.activeElement?.closest('table, .pd-bulk')"


class RunList:
    """The whole page.

    Args:
        wanted: what its address asks for.
    """

    def __init__(self, desk: Desk, wanted: Wanted) -> None:
        self._desk = desk
        self._wanted = wanted
        self._shown: list[RunInfo] = []
        self._trail: list[str] = [wanted.cursor]  # the cursors of the pages up to this one
        self._next: str | None = None
        self._told = ""
        self._selected: dict[str, RunInfo] = {}
        self._all = False  # what is selected is all that matches
        self._facts = _Facts(desk)
        self._workflows: list[str] = []
        self._any_cost = False

    async def draw(self) -> None:
        with parts.bar():
            parts.heading("Runs")
            with parts.row():
                self._count = ui.label().classes("pd-dim").props('role="status"')
                start = parts.button(
                    "Start a run", self._start, icon="add", main=True, allowed=self._desk.operates
                )
                start.props('data-key="c"')
        self._filters = Filters(self._wanted, self.go)
        self._trouble = ui.element("div").classes("pd-maybe")
        with ui.element("div").classes("pd-news").props('role="status"'):
            self._news = parts.button("", self._show_news, icon="arrow_upward")
        self._news.set_visibility(False)
        self._bulk_bar()
        self._table = parts.table(self._columns(), [], label="Runs", select=self._select)
        self._empty = ui.element("div").classes("pd-maybe")
        with ui.element("div").classes("pd-row pd-pager").props('role="group" aria-label="Pages of runs"'):
            self._newest = parts.button("Newest", self._to_newest, icon="first_page")
            self._newer = parts.button("Newer", self._to_newer, icon="chevron_left").props('data-key="p"')
            self._older = parts.button("Older", self._to_older, icon="chevron_right").props('data-key="n"')
        await self._load()
        show_early(self._desk, "Runs", self._table)
        ui.on("pd-address", self._gone_back)
        ui.timer(0.01, self._deepen, once=True)
        self._desk.every(EVERY, self._refresh)

    # -- which page ---------------------------------------------------------------------------------

    async def go(self, wanted: Wanted, *, push: bool = True) -> None:
        """Show another list, or another page of it."""
        if replace(wanted, cursor="") != replace(self._wanted, cursor=""):
            self._trail = [""] if not wanted.cursor else [wanted.cursor]
            self._clear_selection()
        elif wanted.cursor in self._trail:
            del self._trail[self._trail.index(wanted.cursor) + 1 :]
        else:
            self._trail.append(wanted.cursor)
        self._wanted = wanted
        if push:
            ui.navigate.history.push(self._desk.url(wanted.address))
        self._filters.show(wanted)
        self._shown = []
        await self._load()
        await self._deepen()

    async def _gone_back(self, event: Any) -> None:
        """The browser's own buttons have changed the address."""
        query = event.args[0] if isinstance(event.args, list) and event.args else event.args
        wanted = Wanted.read(str(query or ""))
        if wanted != self._wanted:
            await self.go(wanted, push=False)

    async def _to_newest(self) -> None:
        self._trail = [""]
        await self.go(replace(self._wanted, cursor=""))

    async def _to_newer(self) -> None:
        await self.go(replace(self._wanted, cursor=self._trail[-2] if len(self._trail) > 1 else ""))

    async def _to_older(self) -> None:
        if self._next is not None:
            await self.go(replace(self._wanted, cursor=self._next))

    # -- what is there ------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Fetch the page and show it as it is."""
        self._trouble.clear()
        now = datetime.now(UTC)
        try:
            page = await self._desk.engine.runs_page(
                **self._wanted.filters(now), size=SIZE, cursor=self._wanted.cursor or None, count=True
            )
        except PerdureError as error:
            with self._trouble:
                parts.trouble(str(error))
            self._shown, self._next = [], None
        else:
            self._shown, self._next = list(page.runs), page.next
            if not self._wanted.cursor:
                self._told = counted(page.total, page.more)
        self._news.set_visibility(False)
        self._show()

    async def _refresh(self) -> None:
        """Look again: what is shown is brought up to date where it stands; newer runs are announced."""
        first = not self._wanted.cursor
        size = NEWS if first and self._news.visible else SIZE * 2 if first else SIZE
        asked = self._wanted.filters(datetime.now(UTC))
        try:
            page = await self._desk.engine.runs_page(
                **asked, size=size, cursor=self._wanted.cursor or None, count=first
            )
        except PerdureError as error:
            self._trouble.clear()
            with self._trouble:
                parts.trouble(str(error))
            return
        if asked != self._wanted.filters(datetime.now(UTC)) and not self._wanted.within:
            return  # another list was asked for meanwhile
        self._trouble.clear()
        if not first:
            self._shown, self._next = list(page.runs), page.next
        else:
            self._told = counted(page.total, page.more)
            shown, news = arranged(self._shown, page.runs)
            if news and not self._selected and await self._at_the_top():
                shown, news = list(page.runs[:SIZE]), 0
            self._shown = shown
            self._news.text = f"{news}{'+' if news >= NEWS else ''} new run{'' if news == 1 else 's'}"
            self._news.set_visibility(news > 0)
        self._show()
        await self._deepen()

    async def _at_the_top(self) -> bool:
        try:
            return bool(await ui.run_javascript(_AT_THE_TOP, timeout=1.0))
        except TimeoutError:
            return False

    async def _show_news(self) -> None:
        self._shown = []
        await self._load()
        await self._deepen()

    async def _deepen(self) -> None:
        """Add what takes more than the list: what runs wait for, and what they cost."""
        if not self._workflows:
            self._workflows = await self._desk.engine.workflows()
            self._filters.offer(self._workflows)
        shown = list(self._shown)
        await self._facts.learn(shown)
        if shown == self._shown:
            self._show()

    def _show(self) -> None:
        now = datetime.now(UTC)
        rows = [self._row(run, now) for run in self._shown]
        costly = any(row["cost"] for row in rows)
        if costly != self._any_cost:
            self._any_cost = costly
            self._table.columns = parts.column_props(self._columns())
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._count.text = self._told
        self._show_empty(not rows)
        older = self._next is not None
        newer = bool(self._wanted.cursor)
        self._older.set_enabled(older)
        self._newer.set_enabled(newer)
        self._newest.set_enabled(newer)
        for button in (self._older, self._newer, self._newest):
            button.set_visibility(older or newer)
        for id in self._selected.keys() & {run.id for run in self._shown}:
            self._selected[id] = next(run for run in self._shown if run.id == id)

    def _row(self, run: RunInfo, now: datetime) -> dict[str, Any]:
        known = self._facts.of(run)
        cost = self._facts.cost(run)
        return {
            **parts.link_cells("id", run.id, self._desk.url(run_path(run.id))),
            "workflow": run.workflow,
            **parts.status_cells("status", run.status.value, waits_for(known, now)),
            **parts.time_cells("created", run.created_at),
            "lasted": parts.duration(lasted(run, now)) if run.ended_at else "",
            "lasted_title": "" if run.ended_at is None else parts.stamp(run.ended_at),
            **parts.time_cells("updated", run.updated_at),
            "cost": "" if not cost else f"${cost:.4f}" if cost < 1 else f"${cost:,.2f}",
            "queue": run.queue,
        }

    def _columns(self) -> Sequence[parts.Column]:
        return [column for column in _COLUMNS if column.name != "cost" or self._any_cost]

    def _show_empty(self, nothing: bool) -> None:
        self._empty.clear()
        if not nothing:
            return
        with self._empty, parts.card():
            if self._wanted.cursor and self._next is None:
                parts.empty("No runs any further back.")
            elif self._wanted.cursor or self._next is not None:
                parts.empty(
                    "None of these match.", "Much was looked through. There may be some further back."
                )
            elif self._wanted.filtered:
                parts.empty("No run matches.", f"Asked for: {self._wanted.told()}.")
            else:
                parts.empty(
                    "No runs yet",
                    'Start one here with "Start a run", from code with engine.start(...), or in a terminal:',
                    "perdure run app:research --input '[\"tardigrades\"]'",
                )

    # -- selecting, and what is done with it --------------------------------------------------------

    def _bulk_bar(self) -> None:
        with ui.element("section").classes("pd-bulk").props('aria-label="Selected runs"') as self._bar:
            self._chosen = ui.label().classes("pd-strong").props('role="status"')
            self._everything = parts.button("", self._select_everything)
            for deed in DEEDS:
                parts.button(
                    deed.verb,
                    partial(self._do, deed),
                    danger=deed.danger,
                    allowed=self._desk.operates,
                )
            parts.button("Clear", self._clear_selection).props('aria-label="Clear the selection"')
        self._bar.set_visibility(False)

    def _select(self, ids: list[str]) -> None:
        shown = {run.id: run for run in self._shown}
        self._selected = {
            id: found for id in ids if (found := shown.get(id) or self._selected.get(id)) is not None
        }
        self._all = False
        self._show_selection()

    def _select_everything(self) -> None:
        self._all = True
        self._show_selection()

    def _clear_selection(self) -> None:
        self._selected = {}
        self._all = False
        self._table.clear_selection()
        self._show_selection()

    def _show_selection(self) -> None:
        self._bar.set_visibility(bool(self._selected))
        everything = self._told if self._told else "all runs"
        self._chosen.text = (
            f"All that match: {everything}" if self._all else f"{runs_told(len(self._selected))} selected"
        )
        self._everything.text = f"Select all that match ({everything})"
        whole = self._next is None and not self._wanted.cursor and len(self._selected) >= len(self._shown)
        self._everything.set_visibility(not self._all and not whole)

    async def _do(self, deed: Deed) -> None:
        if self._all:
            runs, cut = await gathered(self._desk, self._wanted.filters(datetime.now(UTC)), deed)
        else:
            runs, cut = [(run.id, run.status) for run in self._selected.values()], False
        if await do_after_asking(self._desk, deed, runs, cut=cut):
            self._clear_selection()
            await self._refresh()

    async def _start(self) -> None:
        self._workflows = await self._desk.engine.workflows()
        StartDialog(self._desk, self._workflows, self._wanted.workflow)


class _Facts:
    """What isn't in a list's rows, read once for each state that a run was in."""

    def __init__(self, desk: Desk) -> None:
        self._engine = desk.engine
        self._known: dict[str, tuple[tuple[Any, ...], RunInfo, Decimal]] = {}
        self._spending: bool | None = None  # whether anything was ever spent

    async def learn(self, runs: Sequence[RunInfo]) -> None:
        """Read what isn't known of these, and forget all others."""
        old = {run.id: self._known[run.id] for run in runs if run.id in self._known}
        self._known = old
        due = [run for run in runs if run.id not in old or old[run.id][0] != _state(run)]
        if due and not self._spending:
            (total,) = await self._engine.usage()
            self._spending = total.usage.calls > 0
        for run in due:
            self._known[run.id] = (_state(run), await self._info(run), await self._cost(run))
            await asyncio.sleep(0)

    async def _info(self, run: RunInfo) -> RunInfo:
        handle = self._engine.get(run.id)
        try:
            if run.status is Status.FAILED:
                async for event in handle.history(after=run.events - 1):
                    if isinstance(event, RunFailed):
                        kind = event.failure.type.rpartition(".")[2]
                        return replace(run, reason=mask(f"{kind}: {event.failure.message}"))
            elif not run.status.final and run.events <= _READ_MAX:
                return await handle.info()
        except PerdureError:  # it may be gone meanwhile, or be damaged, which its own page tells
            pass
        return run

    async def _cost(self, run: RunInfo) -> Decimal:
        if not self._spending:
            return Decimal(0)
        try:
            usage = await self._engine.get(run.id).usage()
        except PerdureError:
            return Decimal(0)
        return usage.cost

    def of(self, run: RunInfo) -> RunInfo:
        """The run with what it waits for, as far as that is known of the state it is in."""
        known = self._known.get(run.id)
        if known is None or known[0] != _state(run):
            return run
        return replace(run, waiting_for=known[1].waiting_for, reason=known[1].reason)

    def cost(self, run: RunInfo) -> Decimal:
        """In US dollars, as it was when somebody last looked."""
        known = self._known.get(run.id)
        return Decimal(0) if known is None else known[2]


def _state(run: RunInfo) -> tuple[Any, ...]:
    return run.generation, run.events, run.status
