"""Workers: who drives runs, how they are, what they have in memory, and which versions of the code they bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from perdure.api.workerinfo import WorkerInfo
from perdure.web.dashboard import fleetfacts, parts, pieces
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live, live_table

_COLUMNS = [
    parts.Column("name", "Worker", "mono"),
    parts.Column("state", "State", "status"),
    parts.Column("heard", "Heard of", "time"),
    parts.Column("runs", "Runs", "number"),
    parts.Column("steps", "Steps", "number"),
    parts.Column("queues", "Queues", wide=True),
    parts.Column("version", "Version", wide=True),
    parts.Column("where", "Where", "mono", wide=True),
    parts.Column("since", "Up since", "time", wide=True),
]
_TROUBLES = {
    "gone": "its runs are taken over by the others",
    "late": "its heartbeat is overdue; its runs are taken over if that goes on",
}


@page("/workers", "Workers")
async def workers(desk: Desk) -> None:
    with parts.bar():
        parts.heading("Workers")

    async def look() -> tuple[Sequence[tuple[str, int]], list[str]]:
        found = await desk.engine.workers()
        alive = [worker for worker in found if worker.state != "gone"]
        figures = [
            ("Up", len(alive)),
            ("Runs in memory", sum(worker.runs for worker in alive)),
            ("Steps executing", sum(worker.steps for worker in alive)),
            ("Draining", sum(worker.state == "stopping" for worker in alive)),
        ]
        return figures, [
            f"{worker.name} was heard of {parts.ago(worker.last_heartbeat)}: {_TROUBLES[worker.state]}."
            for worker in found
            if worker.state in _TROUBLES
        ]

    async def rows() -> list[dict[str, Any]]:
        return [_row(worker) for worker in fleetfacts.worker_rows(await desk.engine.workers())]

    async def code() -> list[tuple[str, int, tuple[str, ...]]]:
        return fleetfacts.versions(await desk.engine.workers())

    await live(desk, look, _draw_figures)
    await live_table(desk, _COLUMNS, rows, _no_workers, label="Workers", key="key")
    await live(desk, code, _draw_code)


def _draw_figures(found: tuple[Sequence[tuple[str, int]], list[str]]) -> None:
    figures, troubles = found
    with ui.element("div").classes("pd-figures"):
        for name, number in figures:
            tone = "bad" if name == "Up" and not number else "hold" if name == "Draining" and number else ""
            parts.figure(name, fleetfacts.count(number), tone=tone)
    for told in troubles:
        parts.trouble(told)


def _no_workers() -> None:
    parts.empty("No worker is up.", "Runs wait until there is one.", "perdure worker app")


def _draw_code(found: Sequence[tuple[str, int, tuple[str, ...]]]) -> None:
    if not found:
        return
    parts.heading("Code", level=2)
    with ui.element("div").classes("pd-grid"):
        for version, number, workflows in found:
            with parts.card(version, level=3):
                plural = "" if number == 1 else "s"
                ui.label(f"{number} worker{plural}, {len(workflows)} workflows").classes("pd-dim")
                with ui.element("div").classes("pd-list"):
                    for name in workflows:
                        parts.mono(name)


def _row(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "key": f"{worker.host}/{worker.pid}/{worker.name}/{worker.started_at.timestamp()}",
        "name": worker.name,
        **pieces.badge_cells("state", fleetfacts.worker_standing(worker)),
        **parts.time_cells("heard", worker.last_heartbeat),
        "runs": fleetfacts.count(worker.runs),
        "steps": fleetfacts.count(worker.steps),
        "queues": ", ".join(worker.queues),
        "version": worker.version or "-",
        "where": f"{worker.host}:{worker.pid}",
        **parts.time_cells("since", worker.started_at),
    }
