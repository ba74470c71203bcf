"""`perdure disk`, `perdure vacuum`, `perdure partition`: the room that a database takes, and giving it back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.keeping import DiskUsage
from perdure.api.wording import size
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import ago, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.storage.disk import SPANS
from perdure.storage.sqlite.disk import vacuum_file

_WORKFLOWS = 20


def disk(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False, url: UrlOption = None
) -> None:
    """Show how much room the database takes, by table and workflow, and what retention would remove."""
    use = asyncio.run(_use(url))
    if as_json:
        facts = {name: getattr(use, name) for name in use.__struct_fields__}
        facts["oldest"] = None if use.oldest is None else use.oldest.isoformat()
        facts["workflows"] = [
            {name: getattr(one, name) for name in one.__struct_fields__} for one in use.workflows
        ]
        print_json(facts)
        return
    out().print(_head(use))
    if use.tables:
        out().print(
            _table(("table", "size"), [(name, size(count)) for name, count in use.tables.items() if count])
        )
    rows = [(one.workflow, f"{one.runs:,}", f"{one.events:,}", size(one.bytes)) for one in use.workflows]
    if rows:
        out().print(_table(("workflow", "runs", "events", "of their data"), rows[:_WORKFLOWS]))


def vacuum(url: UrlOption = None) -> None:
    """Give free room of a SQLite file back to the system.

    Files of today do it in small steps, while workers go on. An older file is written anew as a whole first: that needs
    as much room again, and no worker may be up.
    """
    where = chosen(url)
    if not where.startswith("sqlite:"):
        raise Trouble(
            "PostgreSQL gives room back by its own VACUUM; drop whole partitions to free much at once."
        )
    use, workers = asyncio.run(_before(url))
    if use.shrinks:
        given = asyncio.run(_shrink(url))
    else:
        if workers:
            raise Trouble(
                f"{workers} workers are up, and this file was made before files could shrink in steps: it has to be "
                "written anew, and nobody can write meanwhile. Stop them, then try again."
            )
        given = vacuum_file(unquote(where.removeprefix("sqlite:///")))
    tell(f"{size(given)} given back. An eighth of the file stays free, for what is written next.")


def partition(
    by: Annotated[str, typer.Option("--by", help=f"Of which time: {', '.join(SPANS)}.", metavar="SPAN")],
    url: UrlOption = None,
) -> None:
    """Keep the events of a new PostgreSQL database in a table for each span of time, which goes as a whole."""
    if not asyncio.run(_partition(url, by)):
        raise Trouble(
            "Only PostgreSQL has partitions. SQLite gives room back by itself, see `perdure vacuum`."
        )
    tell(
        f"Events are kept by {by}. Workers with Engine(retention=...) make the next partitions, and drop those of "
        "which no run is left."
    )


async def _use(url: str | None) -> DiskUsage:
    async with reader(url) as engine:
        return await engine.disk()


async def _before(url: str | None) -> tuple[DiskUsage, int]:
    async with reader(url) as engine:
        return await engine.disk(), len(await engine.workers())


async def _shrink(url: str | None) -> int:
    async with reader(url) as engine:
        return await engine.vacuum()


async def _partition(url: str | None, span: str) -> bool:
    async with reader(url) as engine:
        return await engine.partition(span)


def _head(use: DiskUsage) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row("size", f"{size(use.bytes)}, of which {size(use.free)} free")
    if use.log:
        grid.add_row("log", size(use.log))
    grid.add_row("runs", f"about {use.runs:,}")
    if use.oldest is not None:
        grid.add_row("oldest", ago(use.oldest, datetime.now(UTC)))
    if use.removing:
        grid.add_row("being removed", f"{use.removing:,} runs")
    for rule in use.rules:
        grid.add_row("rule", Text(printable(rule)))
    if use.rules:
        grid.add_row("due", f"{use.due:,} runs{' or more' if use.due_more else ''}")
    return grid


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
