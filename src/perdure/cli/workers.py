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
        "pid": worker.pid,
        "version": worker.version,
        "started_at": worker.started_at.isoformat(),
        "lease_until": worker.lease_until.isoformat(),
        "queues": list(worker.queues),
        "workflows": list(worker.workflows),
    }


def _table(found: list[WorkerInfo]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for title in ("name", "pid", "version", "started", "lease", "queues", "workflows"):
        table.add_column(title, no_wrap=title != "workflows")
    for worker in found:
        left = (worker.lease_until - now).total_seconds()
        cells = (
            printable(worker.name),
            str(worker.pid),
            printable(worker.version or ""),
            ago(worker.started_at, now),
            f"{left:.0f} s left" if left >= 0 else f"over {ago(worker.lease_until, now)}",
            printable(", ".join(worker.queues)),
            one_line(", ".join(worker.workflows), 200),
        )
        table.add_row(*map(Text, cells))
    return table
