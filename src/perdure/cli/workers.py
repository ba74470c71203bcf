"""`perdure workers`: the processes that drive runs, and the versions of their code."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.workerinfo import WorkerInfo
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import ago, one_line, out, print_json, printable, tell

_COLUMNS = ("name", "state", "version", "runs", "steps", "since", "last heartbeat", "queues", "workflows")
_STYLES = {"alive": "green", "late": "yellow", "stopping": "yellow", "gone": "bold red"}


def workers(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List the workers."""
    found = asyncio.run(_find(url))
    if as_json:
        print_json([_facts(worker) for worker in found])
    elif found:
        out().print(_table(found))
    else:
        tell("No worker is running. `perdure worker MODULE` starts one.")


async def _find(url: str | None) -> list[WorkerInfo]:
    async with reader(url) as engine:
        return await engine.workers()


def _facts(worker: WorkerInfo) -> dict[str, Any]:
    return {
        "name": worker.name,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "runs": worker.runs,
        "steps": worker.steps,
        "started_at": worker.started_at.isoformat(),
        "last_heartbeat": worker.last_heartbeat.isoformat(),
        "lease_until": worker.lease_until.isoformat(),
        "queues": list(worker.queues),
        "workflows": list(worker.workflows),
        "offers": list(worker.offers),
    }


def _table(found: list[WorkerInfo]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for title in _COLUMNS:
        right = title in ("runs", "steps")
        table.add_column(title, no_wrap=title != "workflows", justify="right" if right else "left")
    for worker in found:
        cells = (
            printable(worker.name),
            Text(worker.state, style=_STYLES[worker.state]),
            printable(worker.version or ""),
            str(worker.runs),
            str(worker.steps),
            ago(worker.started_at, now),
            ago(worker.last_heartbeat, now),
            printable(", ".join(worker.queues)),
            one_line(", ".join([*(f"step {step}" for step in worker.offers), *worker.workflows]), 200),
        )
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table
