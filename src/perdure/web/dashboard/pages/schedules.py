"""Schedules: what starts runs by the clock, when next, what it has started; triggering, pausing, filling, deleting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from perdure.api.scheduleinfo import ScheduleInfo
from perdure.errors import UnknownRunError, UnknownScheduleError
from perdure.web.dashboard import fleetfacts, parts, pieces
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live, live_table

_COLUMNS = [
    parts.Column("name", "Schedule", "link"),
    parts.Column("state", "State", "status"),
    parts.Column("timing", "When", wide=True),
    parts.Column("next", "Next", "time"),
    parts.Column("last", "Last started", "time", wide=True),
    parts.Column("workflow", "Workflow", wide=True),
    parts.Column("fired", "Runs", "number", wide=True),
]
_RUNS = [
    parts.Column("id", "Run", "link"),
    parts.Column("status", "Status", "status"),
    parts.Column("at", "Started", "time"),
    parts.Column("slot", "For the slot", wide=True),
]


@page("/schedules", "Schedules")
async def schedules(desk: Desk) -> None:
    with parts.bar():
        parts.heading("Schedules")

    async def rows() -> list[dict[str, Any]]:
        return [_row(desk, schedule) for schedule in await desk.engine.schedules.list()]

    def none() -> None:
        parts.empty(
            "There is no schedule.",
            "Code makes one, or the command line.",
            'perdure schedule create nightly app:report --cron "30 2 * * *"',
        )

    await live_table(desk, _COLUMNS, rows, none, label="Schedules", key="name")


def _row(desk: Desk, schedule: ScheduleInfo) -> dict[str, Any]:
    return {
        **parts.link_cells("name", schedule.name, desk.url(f"/schedules/{parts.quoted(schedule.name)}")),
        **pieces.badge_cells("state", fleetfacts.schedule_standing(schedule)),
        "timing": fleetfacts.timing_text(schedule),
        **parts.time_cells("next", schedule.next[0] if schedule.next else None, none="-"),
        **parts.time_cells("last", schedule.recent[0].at if schedule.recent else None, none="never"),
        "workflow": schedule.workflow,
        "fired": fleetfacts.count(schedule.fired),
    }


@page("/schedules/{name:path}", "Schedule")
async def schedule(desk: Desk, name: str) -> None:
    handle = desk.engine.schedules.get(name)
    api = f"/schedules/{parts.quoted(name)}"

    async def look() -> ScheduleInfo | None:
        try:
            return await handle.info()
        except UnknownScheduleError:
            return None

    if await look() is None:
        await handle.info()  # says what is wrong

    async def look_head() -> tuple[fleetfacts.Standing, bool, str | None] | None:
        found = await look()
        return None if found is None else (fleetfacts.schedule_standing(found), found.paused, found.reason)

    def draw_head(state: tuple[fleetfacts.Standing, bool, str | None] | None) -> None:
        with parts.bar():
            with parts.row():
                parts.heading(f"Schedule {name}")
                if state is not None:
                    pieces.badge(state[0])
            if state is not None:
                with parts.row():
                    _actions(desk, name, api, paused=state[1])
        if state is not None and state[2]:
            ui.label(f"Paused: {state[2]}").classes("pd-dim")

    def draw(found: ScheduleInfo | None) -> None:
        if found is None:
            parts.empty("It was deleted.", "The runs that it has started go on.")
            return
        with ui.element("div").classes("pd-grid"):
            with parts.card("What it does"):
                parts.facts(fleetfacts.schedule_facts(found))
            with parts.card("Next"):
                if found.next:
                    parts.facts([(parts.stamp(slot), slot) for slot in found.next])
                else:
                    why = "It is paused." if found.paused else "All its slots have been."
                    ui.label(why).classes("pd-dim")

    async def runs() -> list[dict[str, Any]]:
        found = await look()
        return [] if found is None else await _runs(desk, found)

    def none() -> None:
        ui.label("It has started none yet.").classes("pd-dim")

    await live(desk, look_head, draw_head)
    await live(desk, look, draw, again=10)
    parts.heading("Started last", level=2)
    await live_table(desk, _RUNS, runs, none, label="Runs that it has started")


async def _runs(desk: Desk, found: ScheduleInfo) -> list[dict[str, Any]]:
    statuses = await asyncio.gather(*(_status(desk, run.id) for run in found.recent))
    return [
        {
            **parts.link_cells("id", run.id, desk.url(run_path(run.id))),
            **parts.status_cells("status", status),
            **parts.time_cells("at", run.at),
            "slot": "by hand" if run.slot is None else parts.stamp(run.slot),
        }
        for run, status in zip(found.recent, statuses, strict=True)
    ]


async def _status(desk: Desk, id: str) -> str:
    try:
        return str(await desk.engine.get(id).status())
    except UnknownRunError:
        return "gone"


def _actions(desk: Desk, name: str, api: str, *, paused: bool) -> None:
    may = desk.administers

    async def trigger() -> None:
        await desk.act(f"{name} has started a run.", "POST", f"{api}/trigger")

    async def pause() -> None:
        def draw() -> Callable[[], Awaitable[bool]]:
            ui.label("It starts nothing until it is resumed. Slots that come meanwhile have no run.")
            why = pieces.field("Why (for those who wonder)", wide=True)

            async def press() -> bool:
                reason = str(why.value or "").strip() or None
                return await desk.act(f"{name} is paused.", "POST", f"{api}/pause", {"reason": reason})

            return press

        await pieces.ask_for(f"Pause {name}?", draw, "Pause")

    async def resume() -> None:
        await desk.act(f"{name} goes on.", "POST", f"{api}/resume")

    async def delete() -> None:
        await parts.act_after_asking(
            desk,
            f"Delete {name}?",
            "It starts nothing any more. The runs that it has started go on.",
            "Delete",
            f"{name} is deleted.",
            "DELETE",
            api,
            danger=True,
        )

    parts.button("Run now", trigger, icon="bolt", main=True, allowed=may, needs="admin")
    if paused:
        parts.button("Resume", resume, icon="play_arrow", allowed=may, needs="admin")
    else:
        parts.button("Pause", pause, icon="pause", allowed=may, needs="admin")
    parts.button("Fill up", lambda: _backfill(desk, name, api), icon="history", allowed=may, needs="admin")
    parts.button("Delete", delete, icon="delete", danger=True, allowed=may, needs="admin")


async def _backfill(desk: Desk, name: str, api: str) -> None:
    def draw() -> Callable[[], Awaitable[bool]]:
        ui.label("Starts the runs of slots that have been and had none. Those that had one keep it.")
        now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
        first = pieces.field("From (UTC)", value=(now - timedelta(days=1)).isoformat(sep=" "))
        last = pieces.field("To (UTC)", value=now.isoformat(sep=" "))

        async def press() -> bool:
            moments: list[str] = []
            for box in (first, last):
                box.error = None
                try:
                    moment = datetime.fromisoformat(str(box.value or "").strip())
                except ValueError:
                    box.error = "a moment, as in 2026-01-31 12:00:00"
                    return False
                moments.append(moment.replace(tzinfo=moment.tzinfo or UTC).isoformat())
            body = {"start": moments[0], "end": moments[1]}
            return await desk.act(f"{name} fills up.", "POST", f"{api}/backfill", body)

        return press

    await pieces.ask_for(f"Fill up {name}?", draw, "Fill up")
