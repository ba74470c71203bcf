"""`perdure archive`: what retention has written before it removed runs, read back."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from perdure.cli.archived import package_in, packages_at
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import moment, out, print_json, printable, tell
from perdure.cli.show import show as show_run
from perdure.cli.trouble import Trouble
from perdure.storage.moving import Package

archive = typer.Typer(
    name="archive",
    help="Runs that were written to an archive before they were removed.",
    no_args_is_help=True,
)

PlaceArgument = Annotated[
    str, typer.Argument(help="The archive's folder or url, or one of its files.", metavar="ARCHIVE")
]


@archive.command("ls")
def ls(
    place: PlaceArgument,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
) -> None:
    """List the runs of an archive. All of its files are read."""
    rows = [(name, package) for name, packages in packages_at(place) for package in packages]
    if as_json:
        print_json([_facts(name, package) for name, package in rows])
        return
    table = Table(box=None, pad_edge=False)
    for title in ("run", "workflow", "status", "ended", "events", "file"):
        table.add_column(title, overflow="fold")
    for name, package in rows:
        facts = _facts(name, package)
        ended = package.generations[-1].ended_at
        told = moment(ended) if ended is not None else ""
        cells = [facts["id"], facts["workflow"], facts["status"], told, str(facts["events"]), name]
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    out().print(table)


@archive.command("show")
def show(
    place: PlaceArgument,
    id: Annotated[str, typer.Argument(help="The run's id.")],
    full: Annotated[bool, typer.Option("--full", help="Whole values, and tracebacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as a JSON object.")] = False,
) -> None:
    """Show a run of an archive and its history, as `perdure show` does."""
    show_run(id, full=full, archive=place, as_json=as_json)


@archive.command("restore")
def restore(
    place: PlaceArgument, id: Annotated[str, typer.Argument(help="The run's id.")], url: UrlOption = None
) -> None:
    """Put a run of an archive back into a database. It has ended, and stays so."""
    package = package_in(place, id)
    asyncio.run(_restore(url, package))
    tell(f"{printable(id)} is back: perdure show {printable(id)}")


async def _restore(url: str | None, package: Package) -> None:
    async with reader(url) as engine:
        if await engine._store.moving.put([package]) != [True]:
            raise Trouble(f"The database has a run {package.id!r}, and nothing replaces it.")


def _facts(name: str, package: Package) -> dict[str, object]:
    last = package.generations[-1]
    return {
        "id": package.id,
        "workflow": last.workflow,
        "status": last.status,
        "ended_at": last.ended_at,
        "events": package.counts().get("event", 0),
        "file": name,
    }
