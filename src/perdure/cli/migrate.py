"""`perdure migrate`: bringing a database to the schema that this version needs, when one wants it to happen.

Whatever opens a database does so, too. This is for those who want to look first, keep a copy, or have one process do it
before many are started.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

import perdure
from perdure.api.engine import Engine
from perdure.cli.backup import path_of, whole
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import print_json, tell
from perdure.cli.trouble import Trouble
from perdure.storage.migrate import SchemaState
from perdure.storage.sqlite.backup import copy_file
from perdure.storage.urls import schema_at

#: The exit code of --check when something is to be done.
DUE = 1


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Only tell what would be done; exits with 1 if anything.")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(
            "--backup",
            metavar="FILE",
            help="Copy a SQLite database before it is changed.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: as a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Bring a database to the schema of this version, while workers of the version before go on."""
    where = chosen(url)
    if check:
        reader(where)  # says so if there is no such database
        found = schema_at(where)
        if as_json:
            print_json(_facts(found))
        else:
            tell(_told(found))
        raise typer.Exit(DUE if found.due else 0)
    there = not where.startswith("sqlite:") or path_of(where, "").exists()
    state = schema_at(where) if there else None
    if state is not None and state.version and not state.due:
        tell(_told(state))
        return
    if state is not None and state.in_the_way is not None:
        raise Trouble(state.in_the_way)
    if backup is not None and state is not None:
        source = path_of(where, "Back up PostgreSQL with its own means first: see docs/guide/backup.md.")
        with whole(backup) as part:
            copy_file(source, part)
        tell(
            f"{backup}: a copy with schema version {state.version}. To go back to it: docs/guide/deploying.md"
        )
    asyncio.run(_open(where))
    tell(_told(schema_at(where)))


async def _open(where: str) -> None:
    async with Engine(where, worker=False):
        pass


def _facts(state: SchemaState) -> dict[str, object]:
    return {
        "database": state.where,
        "version": state.version,
        "known": state.known,
        "due": [f"{one.version:04d}_{one.name}" for one in state.due],
        "in_the_way": state.in_the_way,
    }


def _told(state: SchemaState) -> str:
    ours = f"Perdure {perdure.__version__} knows schema version {state.known}"
    if not state.due:
        newer = ", which this one can use" if state.version > state.known else ""
        return f"{state.where} has schema version {state.version}{newer}; {ours}. There is nothing to do."
    lines = [f"{state.where} has schema version {state.version}; {ours}. To be done:"]
    for one in state.due:
        how = "in steps, while others work" if one.steps else "in one transaction"
        goes_on = f"code that knows {one.oldest_code} or more goes on"
        lines.append(f"  {one.version:04d} {one.name.replace('_', ' ')} ({how}; {goes_on})")
    if state.in_the_way is not None:
        lines.append(state.in_the_way)
    return "\n".join(lines)
