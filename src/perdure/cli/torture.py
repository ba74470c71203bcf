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
    command = [sys.executable, "-m", "perdure.testing.torture", "--url", chosen(url)]
    command += ["--seconds", str(seconds), "--workers", str(workers)]
    if seed is not None:
        command += ["--seed", str(seed)]
    if folder is not None:
        command += ["--folder", str(folder)]
    raise typer.Exit(subprocess.call(command))  # noqa: S603 - our own program
