"""`perdure verify`: tries new code on the histories of all live runs before it is deployed."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.loading import load_module
from perdure.cli.output import err, print_json
from perdure.cli.trouble import Trouble
from perdure.cli.verifyreport import exit_code, facts, report
from perdure.runtime.verifying import Cause
from perdure.runtime.verifyjobs import CodeError, Findings, Jobs
from perdure.runtime.verifyprocess import Export, Setup
from perdure.storage.auditing import Auditor
from perdure.storage.histories import files_in
from perdure.storage.urls import auditor_for, shown_url

_PAGE = 1000  # runs

ModulesArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE...", help="Modules that hold the new code's workflows.")
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Only so many runs, drawn from every workflow.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Processes; one for each processor.", show_default=False),
]
IgnoreOption = Annotated[
    list[Cause] | None,
    typer.Option(
        "--ignore", help="A cause that isn't to fail this command, such as unknown.", show_default=False
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version", help="The version that the new code will have: for pinned runs.", show_default=False
    ),
]
TimeOption = Annotated[
    float, typer.Option("--time-limit", metavar="SECONDS", min=0.1, help="Longest replay of one run.")
]
TurnOption = Annotated[
    float, typer.Option("--turn-limit", metavar="SECONDS", min=0.1, help="As your engine's turn_limit.")
]
HistoriesOption = Annotated[
    Path | None,
    typer.Option(
        "--histories",
        metavar="DIR",
        help="Replay recorded histories instead of a database.",
        show_default=False,
    ),
]
ExportOption = Annotated[
    Path | None,
    typer.Option(
        "--export-histories", metavar="DIR", help="Record histories there, for tests.", show_default=False
    ),
]
ShapeOption = Annotated[
    int,
    typer.Option(
        "--per-shape", metavar="N", min=0, help="Histories recorded of each way through the code; 0 for all."
    ),
]


def verify(
    modules: ModulesArgument,
    sample: SampleOption = None,
    jobs: JobsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    ignore: IgnoreOption = None,
    version: VersionOption = None,
    time_limit: TimeOption = 30.0,
    turn_limit: TurnOption = 2.0,
    finished: Annotated[bool, typer.Option("--finished", help="Also runs that have ended.")] = False,
    histories: HistoriesOption = None,
    export_histories: ExportOption = None,
    per_shape: ShapeOption = 2,
    redact: Annotated[bool, typer.Option("--redact", help="Record them without texts in payloads.")] = False,
    url: UrlOption = None,
) -> None:
    """Replay live runs with new code, and tell which couldn't go on, and why.

    Reads only, and works while workers do. Exits with 0 if all could go on, 1 if the code doesn't fit some, 2 if some
    (or all) couldn't be verified.
    """
    for module in modules:
        load_module(module)  # says what is wrong with it
    setup = Setup(
        modules,
        [entry or os.getcwd() for entry in sys.path],
        None if histories is not None else chosen(url),
        version,
        finished,
        turn_limit,
        time_limit,
        None if export_histories is None else Export(str(export_histories), per_shape, redact),
    )
    if export_histories is not None:
        export_histories.mkdir(parents=True, exist_ok=True)
    number = jobs or os.cpu_count() or 1
    if histories is not None:
        where = str(histories)
        files = [str(path) for path in files_in(histories)]
        if not files:
            raise Trouble(
                f"There are no recorded histories in {histories}: `perdure verify --export-histories` writes some."
            )
        findings = _try(Jobs(setup, number, len(files), str), files, len(files), quiet=as_json)
    else:
        assert setup.url is not None
        reader(url)  # says so if there is no such database
        where = shown_url(setup.url)
        findings = _database(setup, number, sample, quiet=as_json)
    ignored = frozenset({Cause.PINNED, *(ignore or ())})
    if as_json:
        print_json(facts(where, findings, ignored))
    else:
        report(where, findings, ignored)
    if code := exit_code(findings, ignored):
        raise typer.Exit(code)


def _database(setup: Setup, number: int, sample: int | None, *, quiet: bool) -> Findings:
    assert setup.url is not None
    auditor = auditor_for(setup.url)
    try:
        total = 0
        with _Keys() as keys:
            for run, workflow in _live(auditor, finished=setup.finished):
                keys.add(run, workflow, sample)
            total = keys.count()
            name = _namer(auditor)
            jobs = Jobs(setup, number, total, name)
            return _try(jobs, keys.all(), total, quiet=quiet) if total else Findings()
    finally:
        auditor.close()


def _live(auditor: Auditor, *, finished: bool) -> Iterator[tuple[int, str]]:
    after = 0
    while page := auditor.replayable(after=after, limit=_PAGE, finished=finished):
        for found in page:
            yield found.run, found.workflow
        after = page[-1].run


def _namer(auditor: Auditor) -> Callable[[int], str]:
    def name(run: int) -> str:
        found = auditor.replayable(after=run - 1, limit=1, finished=True)
        return found[0].id if found else f"(key {run})"

    return name


class _Keys:
    """The keys of the runs to try: on disk, so that any number of them costs no memory; or a sample."""

    def __enter__(self) -> _Keys:
        self._file = tempfile.TemporaryFile()
        self._seen: dict[str, int] = {}
        self._drawn: dict[str, list[int]] = {}
        self._sample: int | None = None
        # A sample should be the same for the same runs.
        self._random = random.Random(0)  # noqa: S311
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, run: int, workflow: str, sample: int | None) -> None:
        self._sample = sample
        seen = self._seen[workflow] = self._seen.get(workflow, 0) + 1
        if sample is None:
            self._file.write(run.to_bytes(8, "big"))
            return
        drawn = self._drawn.setdefault(workflow, [])
        if len(drawn) < sample:
            drawn.append(run)
        elif (place := self._random.randrange(seen)) < sample:
            drawn[place] = run

    def count(self) -> int:
        return sum(self._seen.values()) if self._sample is None else len(self._chosen())

    def all(self) -> Iterable[int]:
        if self._sample is not None:
            yield from self._chosen()
            return
        self._file.seek(0)
        while data := self._file.read(8):
            yield int.from_bytes(data, "big")

    def _chosen(self) -> list[int]:
        """As many of each workflow as there are, in turn."""
        chosen: list[int] = []
        place = 0
        most = max(map(len, self._drawn.values()), default=0)
        while place < most and len(chosen) < (self._sample or 0):
            chosen += [drawn[place] for drawn in self._drawn.values() if place < len(drawn)]
            place += 1
        return chosen[: self._sample]


def _try(jobs: Jobs, items: Iterable[int | str], total: int, *, quiet: bool) -> Findings:
    progress = None
    if not quiet and sys.stderr.isatty():
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        progress = Progress(*columns, console=err(), transient=True)
    try:
        with progress or nullcontext():
            task = progress.add_task("replaying", total=total) if progress is not None else None

            def tell_on(findings: Findings) -> None:
                if progress is not None and task is not None:
                    progress.update(task, completed=findings.runs + findings.gone)

            return jobs.try_all(items, tell_on)
    except CodeError as error:
        raise Trouble(f"The code can't be tried. {error}") from error
