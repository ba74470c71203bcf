"""`perdure prune` and `perdure retention`: removing old runs, and what is known of whoever does it."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.keeping import Pruned, RetentionState
from perdure.cli.database import UrlOption, reader
from perdure.cli.lengths import length
from perdure.cli.output import ago, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.core.retention import ENDS
from perdure.runtime.retention import Retention

JsonOption = Annotated[bool, typer.Option("--json", help="As a JSON object.")]


def prune(
    older_than: Annotated[
        str,
        typer.Option("--older-than", help="How long after their end runs go: 30d, 12h, 0s.", metavar="TIME"),
    ],
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help=f"Only runs that ended so: {', '.join(ENDS)}.", show_default=False),
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", help="Only of this workflow; a pattern may have *.", show_default=False),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive",
            metavar="DIR",
            help="Write them there first: a folder, or a url such as file:///old?format=parquet.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Remove runs that ended long ago, with all that belongs to them and what they have started.

    It is done in small steps, so that workers go on meanwhile. Interrupted, it goes on when it is called again.
    """
    if archive is not None and "://" not in archive:
        archive = os.path.abspath(archive)
    rule = Retention(
        length(older_than, "--older-than"), workflow=workflow, status=status or None, archive=archive
    )
    pruned = asyncio.run(_prune(url, rule, dry=dry_run))
    if pruned is None:
        raise Trouble(
            "Somebody else is removing runs just now, see `perdure retention`. Try again in a while."
        )
    if as_json:
        kinds = [{"workflow": name, "status": how, "runs": n} for (name, how), n in pruned.kinds.items()]
        print_json({"runs": pruned.runs, "kinds": kinds, "kept": pruned.kept, "files": pruned.files})
        return
    _show(pruned, dry=dry_run)


def retention(as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show by which rules workers remove old runs, and who did it last. Without rules every run stays."""
    state = asyncio.run(_state(url))
    if as_json:
        print_json(
            None
            if state is None
            else {
                "holder": state.holder,
                "at": state.at.isoformat(),
                "working": state.working,
                "rules": state.rules,
            }
        )
        return
    if state is None or not state.rules:
        tell(
            "No worker has a rule, so every run stays: Engine(retention=[...]), @workflow(retention=...). "
            "`perdure prune` removes runs by hand."
        )
    if state is not None:
        for rule in state.rules:
            out().print(Text(f"- {printable(rule)}"), soft_wrap=True)
        now = "now" if state.working else ago(state.at, datetime.now(UTC))
        out().print(Text(f"looked after by {printable(state.holder)}, {now}"), soft_wrap=True)


async def _prune(url: str | None, rule: Retention, *, dry: bool) -> Pruned | None:
    async with reader(url) as engine:
        return await engine.prune([rule], dry=dry)


async def _state(url: str | None) -> RetentionState | None:
    async with reader(url) as engine:
        return await engine.retention()


def _show(pruned: Pruned, *, dry: bool) -> None:
    if pruned.kinds:
        table = Table(box=None, pad_edge=False)
        for title in ("workflow", "status", "runs"):
            table.add_column(title, justify="right" if title == "runs" else "left")
        for (name, how), count in sorted(pruned.kinds.items()):
            table.add_row(Text(printable(name)), how, str(count))
        out().print(table)
    for why, count in pruned.kept.items():
        tell(f"{_runs(count)} old enough, but stay: {why}.")
    if dry:
        tell(f"{_runs(pruned.runs)} would be removed, with all that they have started. Nothing was done.")
    else:
        files = f", after they were written to {pruned.files} files" if pruned.files else ""
        tell(f"{_runs(pruned.runs)} removed{files}.")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
