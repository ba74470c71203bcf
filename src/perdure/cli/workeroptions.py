"""What `perdure worker` can be told."""

from __future__ import annotations

from typing import Annotated

import typer

ModulesArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE...", help="Modules that hold workflows.")
]
QueuesOption = Annotated[str, typer.Option("--queues", metavar="A,B", help="The queues to serve.")]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, help="Steps executing at once.")]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        help="How many of them in processes; one for each processor.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        help="So many workers, each a process; ports and names of the others are counted up from the first's.",
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        "--grace", metavar="SECONDS", min=0, help="How long steps may go on after the first signal."
    ),
]
LeaseOption = Annotated[
    float,
    typer.Option(
        "--lease", metavar="SECONDS", help="Others take its runs over when it isn't heard of for so long."
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="What listings call it; by default host and process.", show_default=False),
]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", help="What you call the version of the code.", show_default=False),
]
StepLogsOption = Annotated[
    bool, typer.Option("--step-logs", help="Keep what steps log with their runs, see `perdure logs`.")
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="text|json",
        envvar="PERDURE_LOG_FORMAT",
        help="How log lines are written.",
        show_default=False,
    ),
]
