"""`perdure move`, `export` and `import`: taking runs to another database."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from perdure.api.blobs import with_blobs
from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import out, printable, tell
from perdure.cli.trouble import Trouble
from perdure.errors import MovingError
from perdure.runtime.moving import Mover, Report
from perdure.runtime.packages import held_back, renamed
from perdure.storage.exports import export_lines, read_export
from perdure.storage.moving import Package
from perdure.storage.protocol import Store
from perdure.storage.records import RunFilter
from perdure.storage.urls import shown_url, store_for

#: Rows of the table, with the parts that are counted in them.
_ROWS = {
    "generations": ("generation",),
    "events": ("event",),
    "messages": ("mail",),
    "updates": ("update",),
    "callbacks": ("callback",),
    "stream items": ("item",),
}


def move(
    source: Annotated[str, typer.Option("--from", help="The database to move away from.")],
    target: Annotated[
        str, typer.Option("--to", help="The database to move to; it is made if it is missing.")
    ],
    wait: Annotated[
        float,
        typer.Option("--wait", help="Seconds for executing steps to end before it is given up for now."),
    ] = 60.0,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Take back an attempt that hasn't moved anything yet.")
    ] = False,
) -> None:
    """Move all runs and schedules to another database, live ones included. Run it again if it was interrupted."""
    if shown_url(source) == shown_url(target):
        raise Trouble("--from and --to are the same database: there is nothing to move.")
    asyncio.run(_move(source, target, wait, give_up=give_up))


def export(
    id: IdArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; the output by default.", show_default=False)
    ] = None,
    with_children: Annotated[
        bool, typer.Option("--with-children", help="Also the runs that it started, and theirs.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Write one run as a file: all its generations with their histories and messages."""
    packages = asyncio.run(_export(url, id, with_children=with_children))
    _warn([package.id for package in packages if package.damage()])
    if out is None:
        sys.stdout.write("".join(line.decode() for line in export_lines(packages)))
        return
    beside = out.with_name(f"{out.name}.part")  # so that a file of this name is always whole
    with beside.open("wb") as file:
        file.writelines(export_lines(packages))
    beside.replace(out)
    events = sum(package.counts()["event"] for package in packages)
    tell(f"{_runs(len(packages))} written to {out}, with {events} events. Elsewhere: perdure import {out}")


def import_(
    file: Annotated[Path, typer.Argument(help="A file that `perdure export` has written.", metavar="FILE")],
    id: Annotated[
        str | None, typer.Option("--id", help="Another id for the run.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Let a live run go on at once; else it arrives paused.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Put an exported run into a database. A live one arrives paused, so that it doesn't run in two places."""
    try:
        with file.open("rb") as lines:
            packages = read_export(lines)
    except OSError as error:
        raise Trouble(f"{file} can't be read: {error.strerror}.") from None
    _warn([package.id for package in packages if package.damage()])
    if id is not None:
        packages = renamed(packages, packages[0].id, id)
    asyncio.run(_import(chosen(url), packages, resume=resume))


async def _move(source: str, target: str, wait: float, *, give_up: bool) -> None:
    async with reader(source):  # says what is wrong, before the target is made
        pass
    async with _opened(source) as one, _opened(target) as other:
        mover = Mover(one, other, shown_url(target), patience=wait, tell=tell)
        if give_up:
            dropped = await mover.give_up()
            tell(f"Given up: {_runs(dropped)} removed from the target; here all goes on.")
            return
        report = await mover.move()
    _show(report)
    tell(f"Moved. Give {printable(shown_url(target))} to your workers and programs now.")


def _show(report: Report) -> None:
    if report.runs:
        table = Table(box=None, pad_edge=False)
        for title in ("", "source", "target"):
            table.add_column(title, justify="left" if not title else "right")
        rows = {"runs": report.runs, "  of them live": report.live}
        rows |= {name: sum(report.parts.get(kind, 0) for kind in kinds) for name, kinds in _ROWS.items()}
        for name, count in rows.items():
            table.add_row(name, str(count), str(count))
        table.add_row("digest", report.digest[:16], report.digest[:16])
        out().print(table)
    elif report.resumed:
        tell("An earlier attempt had moved the runs; what was left to do is done.")
    if report.schedules:
        tell(f"{report.schedules} schedules went over.")
    _warn(report.damaged)
    for name in report.refused:
        tell(f"The target has another schedule {name!r}: that of the source stays there.")


def _warn(damaged: Sequence[str]) -> None:
    """Damaged runs are carried as they are: the other database is to find the same damage."""
    for id in damaged:
        tell(
            f"The history of run {printable(id)} isn't what was recorded. It is carried as it is, and the run will be "
            "blocked there. `perdure check` tells what is wrong."
        )


async def _export(url: str | None, id: str, *, with_children: bool) -> list[Package]:
    async with reader(url), _opened(chosen(url)) as store:
        ids = [id]
        for parent in ids:  # it grows
            if with_children:
                ids += [child for child in await _children(store, parent) if child not in ids]
        found = await store.moving.read(ids)
    packages = [package for package in found if package is not None]
    if found[0] is None:
        raise Trouble(f"No run has the id {id!r} in {url}. `perdure ls` lists the runs.")
    return packages


async def _children(store: Store, id: str) -> list[str]:
    children: list[str] = []
    (row,) = await store.get([id])
    for number in range(1, row.generation + 1 if row is not None else 1):
        generation = await store.generation(id, number)
        if generation is not None:
            found = await store.find(RunFilter(parent=generation.run, limit=1_000_000))
            children += [child.id for child in reversed(found)]
    return children


async def _import(url: str, packages: list[Package], *, resume: bool) -> None:
    live = [package.id for package in packages if package.live]
    if not resume:
        packages = [held_back(package, "it was imported", time.time()) for package in packages]
    async with _opened(url) as store:
        rows = await store.get([package.id for package in packages])
        taken = [row.id for row in rows if row is not None]
        made = [] if taken else await store.moving.put(packages)
    taken += [package.id for package, done in zip(packages, made, strict=False) if not done]
    if taken:
        raise MovingError(
            f"The database has a run {taken[0]!r} already, and an import changes none. Give another id with --id."
        )
    first = printable(packages[0].id)
    tell(f"{_runs(len(packages))} imported: perdure show {first}")
    if live and not resume:
        tell(
            f"{_runs(len(live))} paused, as the original may go on elsewhere. When it doesn't: perdure resume {first}"
        )


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[Store, None]:
    if url.startswith("memory:"):
        raise Trouble(f"{url} is a database within one process: nothing can be moved from or to it.")
    _, store = with_blobs(store_for(url), None)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _runs(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"
