"""`perdure check`: looks through a database for damage, beside the workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import err, out, print_json, printable, tell
from perdure.cli.trouble import Trouble, did_you_mean
from perdure.errors import UnknownRunError
from perdure.runtime.checking import Check, Counts, Finding
from perdure.storage.urls import auditor_for

#: The exit code when something was found.
DAMAGED = 1

IdsArgument = Annotated[
    list[str] | None, typer.Argument(help="Only these runs; by default everything.", show_default=False)
]


def check(
    ids: IdsArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Don't let the database look through its own files.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Prove that what is stored is what was recorded.

    Changes nothing, and works while workers do. Exits with 0 if all is sound, 1 if something was found, 2 if the
    database can't be read.
    """
    reader(url)  # says so if there is no such database
    auditor = auditor_for(chosen(url))
    look = Check(auditor, None if as_json or not sys.stderr.isatty() else _progress)
    found: list[Finding] = []
    try:
        for finding in look.runs(ids) if ids else look.everything(files=not quick):
            found.append(finding)
            if not as_json:
                out().print(_line(finding), soft_wrap=True)
    except UnknownRunError as error:
        near = did_you_mean(error.run_id, _some_ids(auditor))
        raise Trouble(f"No run has the id {error.run_id!r} in {auditor.where}.{near}") from error
    finally:
        auditor.close()
    if as_json:
        print_json(_facts(auditor.where, look.counts, found))
    else:
        tell(_verdict(auditor.where, look.counts, found))
    if found:
        raise typer.Exit(DAMAGED)


def _some_ids(auditor: Any) -> Iterator[str]:
    return (standing.id for standing in auditor.runs(after=0, limit=1000))


def _progress(counts: Counts) -> None:
    err().print(f"{counts.runs} runs, {counts.events} events ...", end="\r")


def _line(finding: Finding) -> Text:
    line = Text(f"{finding.kind:<12}", style="bold red")
    if finding.run is not None:
        line.append(printable(finding.run), style="bold")
        if finding.generation != 1:
            line.append(f" (generation {finding.generation})", style="default")
        line.append(": ", style="default")
    return line.append(printable(finding.text), style="default")


def _verdict(where: str, counts: Counts, found: list[Finding]) -> str:
    looked = f"{counts.runs} runs with {counts.events} events ({counts.bytes} bytes) in {where}"
    if counts.changing:
        looked += f"; {counts.changing} runs changed in each look, check these again"
    if not found:
        return f"All is sound: {looked}."
    things = "1 finding" if len(found) == 1 else f"{len(found)} findings"
    hint = (
        "Damaged runs are blocked when they are to go on, and the others aren't concerned. Bring their rows back from "
        "a backup (`perdure resume ID` lets them go on), or go on from before the damage: perdure fork ID --at EVENT."
    )
    return f"{things}, {counts.damaged} damaged runs: {looked}. {hint}"


def _facts(where: str, counts: Counts, found: list[Finding]) -> dict[str, Any]:
    return {
        "database": where,
        "sound": not found,
        **msgspec.structs.asdict(counts),
        "findings": [msgspec.structs.asdict(finding) for finding in found],
    }
