"""The runs, newest first, page by page."""

from __future__ import annotations

from perdure.web.dashboard import parts
from perdure.web.dashboard.desk import Desk, run_path
from perdure.web.dashboard.frame import page


@page("/runs", "Runs")
async def runs(desk: Desk, text: str = "") -> None:
    with parts.bar():
        parts.heading("Runs")
    found = await desk.engine.runs_page(text=text or None, size=50)
    columns = [
        parts.Column("id", "Run", "link"),
        parts.Column("workflow", "Workflow", wide=True),
        parts.Column("status", "Status", "status"),
        parts.Column("created", "Started", "time"),
    ]
    rows = [
        {
            **parts.link_cells("id", run.id, desk.url(run_path(run.id))),
            "workflow": run.workflow,
            **parts.status_cells("status", run.status),
            **parts.time_cells("created", run.created_at),
        }
        for run in found.runs
    ]
    parts.table(columns, rows, label="Runs")
