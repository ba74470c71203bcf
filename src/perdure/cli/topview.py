"""What `perdure top` draws: a look, as text that fits a terminal of any size. Pure; top.py looks and reads keys.

Each section has a title and rows. The screen's lines are dealt out one by one to the sections that still want some,
so that a long list never pushes a short one out, and a title tells how many rows it has when not all are shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from perdure.api.watch import LIVE, Look
from perdure.api.wording import duration, one_line
from perdure.cli.output import STATUS_STYLES
from perdure.cli.topsections import Section, Showing, rate, sections_of, stuck_in_full
from perdure.core.status import Status

WIDE: Final = 132  #: columns from which on there are two stacks of sections beside each other
_LEFT: Final = ("stuck", "workflows", "steps")


def screen(look: Look | None, showing: Showing, width: int, height: int, now: datetime) -> RenderableType:
    """All of it, `height` lines at most.

    Args:
        look: None before the first one.
        now: the age of the look counts from it to here.
    """
    head = _head(look, showing, width, now)
    foot = _fitted(_foot(showing), width)
    if showing.helping:
        return Lines(*head, Text(), *_HELP, Text(), foot)
    if look is None:
        return Lines(*head, foot)
    room = max(1, height - len(head) - 1)
    if showing.alone == "stuck":
        lines = stuck_in_full(look, showing, width, now)[:room]
        return Lines(*head, *(_fitted(line, width) for line in lines), foot)
    sections = sections_of(look, showing, now)
    if width >= WIDE and showing.alone is None:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        half = width // 2 - 2
        left = [each for each in sections if each.title in _LEFT]
        right = [each for each in sections if each.title not in _LEFT]
        grid.add_row(_stack(left, half, room), _stack(right, half, room))
        return Lines(*head, grid, foot)
    return Lines(*head, _stack(sections, width, room), foot)


def _head(look: Look | None, showing: Showing, width: int, now: datetime) -> list[RenderableType]:
    first = Text("perdure top ", style="bold")
    first.append(one_line(showing.url, max(10, width - 44)), style="cyan")
    first.append(f"  every {showing.every:g} s")
    if showing.paused:
        first.append("  PAUSED", style="bold yellow")
    if showing.trouble or look is None:
        told = f"the database can't be looked at: {showing.trouble}" if showing.trouble else "looking..."
        if showing.trouble and look is not None:
            told = f"as of {duration((now - look.at).total_seconds())} ago; {told}"
        trouble = Text(one_line(told, width), style="bold red" if showing.trouble else "dim")
        if look is None:
            return [_fitted(first, width), trouble]
        return [_fitted(first, width), trouble, *_numbers(look, width)]
    first.append(f"  {look.at.astimezone():%H:%M:%S}", style="dim")
    return [_fitted(first, width), *_numbers(look, width)]


def _numbers(look: Look, width: int) -> list[RenderableType]:
    runs = Text("runs ")
    for status in LIVE:
        number = look.runs.get(status, 0)
        runs.append(f" {status} ", style="dim").append(
            f"{number:,}", style=str(STATUS_STYLES[Status(status)]) if number else "dim"
        )
    ended = sum(number for status, number in look.runs.items() if status not in LIVE)
    runs.append("  ended ", style="dim").append(f"{ended:,}")
    pace = Text("last minute ").append(f" {rate(look.ended)} ended", style="bold")
    share = look.failed / look.ended if look.ended else 0.0
    pace.append(f", {share:.1%} failed", style="red" if share else "dim")
    alive = sum(worker.state == "alive" for worker in look.workers)
    style = "green" if alive and alive == len(look.workers) else "bold red" if not alive else "yellow"
    pace.append("   workers ", style="dim").append(f"{alive} of {len(look.workers)} alive", style=style)
    pace.append("   today ", style="dim").append(f"${look.spent:,.2f}, {look.calls:,} calls")
    return [_fitted(runs, width), _fitted(pace, width)]


_HELP: Final = (
    Text("q, Ctrl-C  leave"),
    Text("s          sort by load, rate, trouble or name"),
    Text("/          show only names with some text: type it, Enter; Esc takes it away"),
    Text("p, space   hold the picture, or let it go on"),
    Text("Tab        one section alone, the next one, all again"),
    Text("+ -        look less or more often"),
    Text("h, ?       this, and back"),
    Text(),
    Text("Rates are of the last minute. What is stuck is looked at every 10 s.", style="dim"),
)


def _foot(showing: Showing) -> Text:
    if showing.typing:
        return Text("only names with: ", style="bold").append(f"{one_line(showing.filter)}█")
    foot = Text()
    for key, told in (
        ("q", "leave"),
        ("s", f"sort: {showing.sort}"),
        ("/", f"filter: {one_line(showing.filter, 20)}" if showing.filter else "filter"),
        ("p", "go on" if showing.paused else "pause"),
        ("Tab", showing.alone or "section"),
        ("?", "help"),
    ):
        foot.append(f" {key} ", style="reverse").append(f" {told}  ")
    return foot


# -- drawing ---------------------------------------------------------------------------------------


def dealt(wants: Sequence[int], room: int) -> list[int]:
    """How many rows each section gets: one by one, in turn, while there is room and anybody wants more.

    Example:
        >>> dealt([1, 9, 2], 7)
        [1, 4, 2]
    """
    given = [0] * len(wants)
    while room > 0 and given != list(wants):
        for index, want in enumerate(wants):
            if given[index] < want and room > 0:
                given[index] += 1
                room -= 1
    return given


def _stack(sections: Sequence[Section], width: int, room: int) -> RenderableType:
    titles = min(len(sections), room)
    given = dealt([max(1, len(each.rows)) for each in sections[:titles]], room - titles)
    airy = room - titles - sum(given) >= titles  # a line between, if nothing is cut off for it
    lines: list[RenderableType] = []
    for section, rows in zip(sections, given, strict=False):
        lines += [Text(), _table(section, rows, width)] if airy else [_table(section, rows, width)]
    return Lines(*lines)


def _table(section: Section, rows: int, width: int) -> Table:
    """A section's title, which is also the head of its columns, and as many rows."""
    shown = section.rows[:rows]
    total = len(section.rows)
    title = section.columns[0] if total <= rows else f"{section.columns[0]} {rows}/{total}"
    if section.title not in (section.columns[0], f"{section.columns[0]}s"):
        title = f"{section.title} {title}"
    heads = (title, *section.columns[1:])
    lengths = [_width(head) for head in heads]
    for row in shown:
        lengths = [max(length, _width(str(cell))) for length, cell in zip(lengths, row.cells, strict=True)]
    over = sum(lengths) + len(lengths) - 1 - width
    lengths[section.stretch] = max(min(8, lengths[section.stretch]), lengths[section.stretch] - max(0, over))
    while len(lengths) > 1 and sum(lengths) + len(lengths) - 1 > width:
        lengths.pop()  # a narrow terminal has the first columns
    lengths[0] = min(lengths[0], width)
    table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for index, length in enumerate(lengths):
        table.add_column(
            width=length,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if index in section.right else "left",
        )
    styles = ("bold underline", *("dim underline" for _ in heads))
    table.add_row(*(Text(head, style=style) for head, style, _ in zip(heads, styles, lengths, strict=False)))
    for row in shown:
        cells = row.cells[: len(lengths)]
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    if not shown and rows:
        table.add_row(Text("none", style="dim"))
    return table


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _fitted(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text
