"""`perdure ls`: the runs of a database, newest first."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.facts import run_facts
from perdure.api.runinfo import RunInfo
from perdure.cli.attributes import asked_of
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import STATUS_STYLES, ago, duration, one_line, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.cli.why import why_facts, why_lines
from perdure.core.status import Status
from perdure.core.why import Why

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
    blocked: Annotated[
        bool, typer.Option("--blocked", help="Only those that can't go on, with what to do about it.")
    ] = False,
    attr: Annotated[
        list[str] | None,
        typer.Option("--attr", metavar="NAME=VALUE", help="Only with this attribute; also < <= > >= !=."),
    ] = None,
    unpatched: Annotated[
        str | None,
        typer.Option(
            "--unpatched", metavar="CHANGE", help="Only live ones that a change of code hasn't reached."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the runs by which steps are executed in other queues.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List runs, newest first."""
    wanted = [*(status or []), *([Status.BLOCKED] if blocked else [])]
    start = None if since is None else since_when(since, datetime.now(UTC))
    asked = asked_of(attr or [])
    only_blocked = set(wanted) == {Status.BLOCKED}  # which needs somebody's attention, whatever it is
    filters: dict[str, Any] = {"status": wanted, "workflow": workflow, "since": start, "limit": limit}
    runs, whys = asyncio.run(
        _find(
            url,
            {**filters, "attributes": asked, "unpatched": unpatched, "errands": everything or only_blocked},
            explain=blocked,
        )
    )
    if as_json:
        print_json([{**run_facts(run), **_explained(whys.get(run.id))} for run in runs])
    elif whys:
        for run in runs:
            for line in why_lines(whys[run.id], datetime.now(UTC)):
                out().print(line, soft_wrap=True)
    elif runs:
        out().print(_table(runs))
    else:
        limited = wanted or workflow or start or asked or unpatched
        tell("No run is like that." if limited else "There are no runs yet.")


async def _find(
    url: str | None, filters: dict[str, Any], *, explain: bool
) -> tuple[list[RunInfo], dict[str, Why]]:
    async with reader(url) as engine:
        runs = [run async for run in engine.runs(**filters)]
        return runs, {run.id: await engine.get(run.id).why() for run in runs} if explain else {}


def _explained(why: Why | None) -> dict[str, Any]:
    return {} if why is None else {"why": why_facts(why)["causes"]}


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
