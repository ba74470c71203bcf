"""`perdure show ID --at SEQ`: where a run's code stood after an event, with its source and its variables."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from perdure.api.facts import event_facts
from perdure.api.lines import Line, timeline
from perdure.cli.database import reader, unknown
from perdure.cli.loading import load_module
from perdure.cli.output import clock_time, duration, moment, one_line, out, print_json, printable
from perdure.core.events import Event
from perdure.core.standing import Frame, Standing, StandingTask
from perdure.errors import UndecodableError, UnknownRunError

#: Colours of tasks, in the order in which they were made.
COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")

_AROUND = 5  # lines before and after the current one
_NARROW = 100  # columns; with fewer, the variables stand below the source
_VALUE = 120  # characters of a variable
_MOMENT = 0.001  # seconds that aren't worth a word
_LIBRARY = 3  # frames of libraries that are named

_python = Syntax("", "python", theme="ansi_dark")


def show_at(
    url: str | None,
    id: str,
    seq: int,
    modules: Sequence[str],
    generation: int | None,
    *,
    full: bool,
    as_json: bool,
) -> None:
    """Print where a run stood."""
    for module in modules:
        load_module(module)
    standing, history = asyncio.run(_look(url, id, seq, generation))
    event = event_facts(history)[standing.seq - 1] if 0 < standing.seq <= len(history) else None
    if as_json:
        told: dict[str, Any] = msgspec.to_builtins(standing)
        del told["files"]
        print_json({**told, "event": event})
        return
    console = out()
    console.print(_header(standing, timeline(history[: standing.seq], full=full)[-1:]))
    for task in standing.tasks:
        console.print()
        _print_task(console, standing, task, full=full)
    if standing.more:
        console.print(f"\n... and {standing.more} more tasks", style="dim")
    if not standing.tasks:
        console.print("\nThe code hadn't begun.", style="dim")


async def _look(url: str | None, id: str, seq: int, generation: int | None) -> tuple[Standing, list[Event]]:
    async with reader(url) as engine:
        handle = engine.get(id)
        try:
            standing = await handle.at(seq, generation=generation)
            history: list[Event] = []
            try:
                async for event in handle.history(generation=generation):
                    history.append(event)
                    if len(history) == standing.seq:
                        break
            except UndecodableError:
                pass
            return standing, history
        except UnknownRunError as error:
            raise await unknown(engine, error) from None


def _header(standing: Standing, lines: Sequence[Line]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("run", Text(printable(standing.run), style="bold"))
    grid.add_row("workflow", Text(printable(standing.workflow)))
    if standing.generation > 1:
        grid.add_row("generation", Text(str(standing.generation)))
    told = Text(f"{standing.seq} of {standing.events}")
    for line in lines:
        told.append(f"   +{line.offset:.3f} s  ", style="dim").append(line.sign, style=line.style)
        told.append(f" {line.what}", style="default").append(f"  {one_line(line.detail, 100)}", style="dim")
    grid.add_row("after event", told)
    grid.add_row("time", Text(clock_time(moment(standing.at))))
    if standing.operations:
        names = [printable(operation.id) for operation in standing.operations[:8]]
        left = len(standing.operations) + standing.more_operations - len(names)
        grid.add_row("open", Text(", ".join(names) + (f" and {left} more" if left else "")))
    if (stop := standing.stop) is not None:
        why = f"event {stop.seq} can't be shown ({stop.kind}): {printable(stop.text)}"
        grid.add_row("stopped", Text(why, style="bold yellow"))
    return grid


def colour(task: StandingTask) -> str:
    """A task's colour: the same at every event."""
    return COLOURS[(task.id - 1) % len(COLOURS)]


def _print_task(console: Console, standing: Standing, task: StandingTask, *, full: bool) -> None:
    title = Text("● ", style=colour(task)).append(printable(task.name), style="bold")
    title.append(f"  {'' if task.ended else 'waits for '}{one_line(task.awaits, 200)}", style="default")
    passed = 0.0 if task.since is None else standing.at - task.since
    if passed >= _MOMENT:
        title.append(f"  for {duration(passed)} by then", style="dim")
    console.print(Rule(title, align="left", style="dim"))
    library = 0
    for frame in task.frames:
        if frame.library:
            library += 1
            if full or library <= _LIBRARY:
                console.print(
                    Text(f"  in {printable(frame.function)}  {_where(frame)}", style="dim"), soft_wrap=True
                )
            continue
        library = 0
        console.print(
            Text(f"  {printable(frame.function)}", style="bold").append(f"  {_where(frame)}", style="dim")
        )
        if frame.handling is not None:
            console.print(Text(f"  handling {one_line(frame.handling, 200)}", style="yellow"), soft_wrap=True)
        source = _source(standing, frame, colour(task), full=full)
        variables = _variables(frame, full=full)
        if console.width < _NARROW:
            console.print(Group(source, variables))
        else:
            grid = Table.grid(padding=(0, 3))
            grid.add_column(width=console.width * 3 // 5)
            grid.add_column(overflow="fold")
            grid.add_row(source, variables)
            console.print(grid)


def _where(frame: Frame) -> str:
    here = os.getcwd() + os.sep
    return f"{printable(frame.file.removeprefix(here))}:{frame.line}"


def _source(standing: Standing, frame: Frame, style: str, *, full: bool) -> RenderableType:
    text = None if frame.source is None else standing.sources.get(frame.source)
    if text is None:
        return Text("      (its source can't be read)", style="dim")
    place = frame.line - text.first
    start, end = 0, len(text.lines)
    if not full:
        start, end = (
            max(0, place - _AROUND),
            min(len(text.lines), max(place, frame.end_line - text.first) + _AROUND + 1),
        )
    coloured = _python.highlight(printable("\n".join(text.lines))).split("\n", allow_blank=True)
    shown: list[Text] = []
    for number in range(start, min(end, len(coloured))):
        line = coloured[number]
        current = frame.line <= text.first + number <= max(frame.line, frame.end_line)
        mark = "▶" if number == place else "│" if current else " "
        head = Text(f" {mark} ", style=f"bold {style}" if current else "dim")
        head.append(f"{text.first + number:>4} ", style=f"bold {style}" if current else "dim")
        line.no_wrap, line.overflow = True, "ellipsis"
        if current:
            line.stylize("bold")
        row = head.append_text(line)
        row.no_wrap, row.overflow = True, "ellipsis"
        shown.append(row)
    return Group(*shown)


def _variables(frame: Frame, *, full: bool) -> RenderableType:
    if not frame.variables:
        return Text("    no local variables", style="dim")
    text = Text()
    for variable in frame.variables:
        if text:
            text.append("\n")
        name = "cyan" if variable.kind == "local" else "blue"
        text.append(f"    {printable(variable.name)}", style=name).append(" = ", style="dim")
        text.append(one_line(variable.text, None if full else _VALUE), style="default")
    if frame.more:
        text.append(f"\n    ... and {frame.more} more", style="dim")
    return text
