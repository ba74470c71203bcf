"""`perdure ls`: the runs of a database, newest first."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.runinfo import RunInfo
from perdure.cli.database import UrlOption, reader
from perdure.cli.facts import run_facts
from perdure.cli.output import STATUS_STYLES, ago, duration, one_line, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.core.status import Status

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def ls(
    status: Annotated[
        list[Status] | None, typer.Option("--status", help="Only with this status; may be repeated.")
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", help="Only of this workflow, by its name or the last part of it."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="2h|DATE", help="Only created since: 45s, 30m, 2h, 7d, or a date."),
    ] = None,
    blocked: Annotated[bool, typer.Option("--blocked", help="Only those that can't go on.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List runs, newest first."""
    wanted = [*(status or []), *([Status.BLOCKED] if blocked else [])]
    start = None if since is None else since_when(since, datetime.now(UTC))
    runs = asyncio.run(_find(url, wanted, workflow, start, limit))
    if as_json:
        print_json([run_facts(run) for run in runs])
    elif runs:
        out().print(_table(runs))
    else:
        tell("No run is like that." if wanted or workflow or start else "There are no runs yet.")


async def _find(
    url: str | None, status: list[Status], workflow: str | None, since: datetime | None, limit: int
) -> list[RunInfo]:
    async with reader(url) as engine:
        return [run async for run in engine.runs(status=status, workflow=workflow, since=since, limit=limit)]


def since_when(text: str, now: datetime) -> datetime:
    """From "2h", "1h30m" or an ISO date to a moment.

    Raises:
        Trouble: it is neither.
    """
    if re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        parts = re.findall(r"([\d.]+)([smhdw])", text)
        try:
            return now - sum(
                (timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta()
            )
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Trouble(
            f"--since {text!r} is no time: give a length such as 45s, 30m, 2h, 7d, or a date such as "
            f"{now:%Y-%m-%d} or {now:%Y-%m-%dT%H:%M}."
        ) from None


def _table(runs: list[RunInfo]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for title in ("id", "workflow", "status", "created", "took", "events"):
        table.add_column(title, justify="right" if title in ("took", "events") else "left", no_wrap=True)
    table.add_column("reason")
    for run in runs:
        table.add_row(*map(_cell, _row(run, now)))
    return table


def _row(run: RunInfo, now: datetime) -> tuple[Any, ...]:
    end = run.ended_at or now
    return (
        printable(run.id),
        printable(run.workflow),
        Text(run.status, style=STATUS_STYLES[run.status]),
        ago(run.created_at, now),
        duration((end - run.started_at).total_seconds()) if run.started_at else "",
        str(run.events),
        one_line(run.reason or "", 60),
    )


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(value)
