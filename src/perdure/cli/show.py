"""`perdure show`: one run, what it waits for, and everything that happened in it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from perdure.api.engine import Engine
from perdure.api.facts import event_facts, run_facts
from perdure.api.lines import Line, timeline
from perdure.api.runinfo import RunInfo, StrayMessage
from perdure.api.spending import Usage
from perdure.cli.archived import archived
from perdure.cli.cost import spent, usage_facts
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import (
    STATUS_STYLES,
    ago,
    clock_time,
    duration,
    moment,
    one_line,
    out,
    print_json,
    printable,
    tell,
)
from perdure.cli.travel import show_at
from perdure.core.events import Event
from perdure.core.timeline import Wait
from perdure.errors import UndecodableError, UnknownRunError

_STRAYS = 5  # messages of each kind in the header


def show(
    id: Annotated[str, typer.Argument(help="The run's id.")],
    full: Annotated[bool, typer.Option("--full", help="Whole values, and tracebacks.")] = False,
    generation: Annotated[
        int | None,
        typer.Option(
            "--generation", min=1, metavar="N", help="An earlier run of this id.", show_default=False
        ),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option(
            "--at",
            min=1,
            metavar="SEQ",
            help="Where its code stood after this event: lines and variables.",
            show_default=False,
        ),
    ] = None,
    modules: Annotated[
        list[str] | None,
        typer.Option("--module", metavar="MODULE", help="For --at: the run's code.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as a JSON object.")] = False,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive", metavar="ARCHIVE", help="A folder, url or file that has the run.", show_default=False
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Show a run and its history; or, with --at, where its code stood."""
    if at is not None:
        show_at(url, id, at, modules or (), generation, full=full, as_json=as_json)
        return
    opened = reader(url) if archive is None else archived(archive, id)
    run, history, usage = asyncio.run(_look(opened, id, generation))
    if as_json:
        print_json({**run_facts(run), "usage": usage_facts(usage), "history": event_facts(history)})
        return
    console = out()
    console.print(_header(run, usage, datetime.now(UTC)))
    console.print()
    lines = timeline(history, full=full)
    if full:
        for line in lines:
            console.print(_whole(line), soft_wrap=True)
    else:
        console.print(_table(lines))


async def _look(
    opened: AbstractAsyncContextManager[Engine], id: str, generation: int | None
) -> tuple[RunInfo, list[Event], Usage]:
    async with opened as engine:
        handle = engine.get(id)
        try:
            # The row first: a history read after it holds all that the row counts, and perhaps more.
            run = await handle.info(generation=generation)
            history: list[Event] = []
            try:
                async for event in handle.history(generation=run.generation):
                    history.append(event)  # noqa: PERF401 - what was read before an error counts
            except UndecodableError as error:
                tell(f"From event {len(history) + 1} on the history can't be read. {error}")
            return run, history, await handle.usage()
        except UnknownRunError as error:
            if generation is not None and "generation" in str(error):
                raise
            raise await unknown(engine, error) from None


def _header(run: RunInfo, usage: Usage, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("run", Text(printable(run.id), style="bold"))
    grid.add_row("workflow", Text(printable(run.workflow)))
    grid.add_row("status", Text(run.status, style=STATUS_STYLES[run.status]))
    if run.reason:
        grid.add_row("reason", Text(printable(run.reason)))
    if run.warning:
        grid.add_row("warning", Text(printable(run.warning), style="yellow"))
    for wait in run.waiting_for:
        grid.add_row("waits for", Text(_waiting(wait, now)))
    for message in run.set_aside[:_STRAYS]:
        grid.add_row("set aside", Text(f"{_stray(message, now)}: {one_line(message.why or '', 200)}"))
    for message in run.undelivered[:_STRAYS]:
        grid.add_row("undelivered", Text(_stray(message, now)))
    if (more := max(0, len(run.set_aside) - _STRAYS) + max(0, len(run.undelivered) - _STRAYS)) > 0:
        grid.add_row("", Text(f"... and {more} more messages: perdure show --json"))
    if run.wake_at is not None and not run.status.final:
        grid.add_row("wakes", Text(f"{clock_time(run.wake_at)} ({ago(run.wake_at, now)})"))
    if run.generation > 1:
        grid.add_row("generation", Text(str(run.generation)))
    if run.parent is not None:
        grid.add_row("parent", Text(printable(run.parent)))
    for name, value in run.attributes.items():
        shown = value.isoformat() if isinstance(value, datetime) else json.dumps(value, ensure_ascii=False)
        grid.add_row("attribute", Text(printable(f"{name} = {shown}")))
    if run.version is not None:
        grid.add_row("version", Text(printable(run.version) + (", pinned to it" if run.pinned else "")))
    key = "" if run.key is None else f", key {run.key}"
    priority = f", priority {run.priority}" if run.priority else ""
    grid.add_row("queue", Text(printable(f"{run.queue}{key}{priority}")))
    grid.add_row("created", Text(f"{clock_time(run.created_at)} ({ago(run.created_at, now)})"))
    if run.ended_at is not None and run.started_at is not None:
        grid.add_row("took", Text(duration((run.ended_at - run.started_at).total_seconds())))
    if usage != Usage():
        grid.add_row("spent", Text(spent(usage)))
    recovered = f", worker lost {run.recoveries} times in a row" if run.recoveries else ""
    grid.add_row("events", Text(f"{run.events}{recovered}"))
    return grid


def _stray(message: StrayMessage, now: datetime) -> str:
    value = one_line(msgspec.json.encode(message.value).decode(), 60)
    came = "" if message.number is None else f"event {message.number}, "
    return f"message {printable(message.name)} {value} ({came}{ago(message.at, now)})"


def _waiting(wait: Wait, now: datetime) -> str:
    told = f"{wait.kind} {printable(wait.id)}, since {duration((now - moment(wait.since)).total_seconds())}"
    if wait.until is not None:
        until = moment(wait.until)
        told += f", until {clock_time(until)} ({ago(until, now)})"
    told += f": {one_line(wait.detail, 140)}" if wait.detail else ""
    told += f" (perdure answer {wait.question})" if wait.question else ""
    if wait.heartbeat is not None and wait.heard_at is not None:
        told += f"; heartbeat {ago(moment(wait.heard_at), now)}: {one_line(wait.heartbeat.decode(), 140)}"
    return told


def _table(lines: list[Line]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        sign = Text(line.sign, style=line.style)
        grid.add_row(_offset(line), sign, Text(line.what), Text(line.took, style="cyan"), Text(line.detail))
    return grid


def _whole(line: Line) -> Text:
    """A line whose values may be long, so not in columns."""
    text = Text(f"{_offset(line):>12}  ", style="dim").append(line.sign, style=line.style)
    text.append(f" {line.what}", style="default")
    if line.took:
        text.append(f"  {line.took}", style="cyan")
    if line.detail:
        text.append(f"  {line.detail}", style="default")
    if line.more:
        text.append("".join(f"\n{'':16}{part}" for part in line.more.splitlines()), style="default")
    return text


def _offset(line: Line) -> str:
    return f"+{line.offset:.3f} s"
