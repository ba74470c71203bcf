"""`perdure torture`: starts the program in `perdure.testing.torture`, which kills workers to prove a point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.database import UrlOption, chosen


def torture(
    url: UrlOption = None,
    own_postgres: Annotated[
        bool, typer.Option("--own-postgres", help="Make a PostgreSQL server for this, and crash it, too.")
    ] = False,
    pgdata: Annotated[
        Path | None,
        typer.Option(
            help="The data directory of the PostgreSQL server at --url: it is crashed, too.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long to kill.", min=1.0)] = 30.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Repeats the programs and blows of an earlier torture.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(help="How many worker processes.", min=2)] = 3,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where logs and books go; by default a temporary folder.", show_default=False),
    ] = None,
) -> None:
    """Kill workers on your own machine and database, and see whether anything is lost.

    Give a database without runs; it is written full. Exits with 0 if all held, 1 if not.
    """
    command = [sys.executable, "-m", "perdure.testing.torture"]
    command += ["--own-postgres"] if own_postgres else ["--url", chosen(url)]
    command += [] if pgdata is None else ["--pgdata", str(pgdata)]
    command += ["--seconds", str(seconds), "--workers", str(workers)]
    if seed is not None:
        command += ["--seed", str(seed)]
    if folder is not None:
        command += ["--folder", str(folder)]
    raise typer.Exit(subprocess.call(command))  # noqa: S603 - our own program
