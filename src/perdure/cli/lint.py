"""`perdure lint`: static checks of workflow code."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli.linting.checks import Finding
from perdure.cli.linting.files import Report, lint_file, python_files
from perdure.cli.linting.rules import BY_CODE, RULES, Rule
from perdure.cli.output import printable, tell
from perdure.cli.trouble import Trouble, did_you_mean

FOUND, UNREADABLE = 1, 2


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


PathsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files and folders; by default this one.")
]


def lint(
    paths: PathsArgument = None,
    format: Annotated[Format, typer.Option("--format", help="How findings are written.")] = Format.TEXT,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="CODE", help="Only these rules.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="CODE", help="Not these rules.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain", metavar="CODE", help="Tell why a rule is one, with examples.", show_default=False
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List all rules.")] = False,
) -> None:
    """Look for code in workflows that can't be replayed, without importing it.

    `# noqa: PDR001` at the end of a line lets it pass. Exits with 0 if nothing was found, 1 if something was, 2 if a
    file couldn't be read or parsed.
    """
    if explain is not None:
        typer.echo(_explained(_rule(explain)))
        return
    if rules:
        typer.echo("\n".join(f"{rule.code}  {rule.name}" for rule in RULES))
        return
    chosen = {_rule(code).code for code in select} if select else set(BY_CODE)
    chosen -= {_rule(code).code for code in ignore or ()}
    given = paths or [Path()]
    for path in given:
        if not path.exists():
            raise Trouble(f"There is no file or folder {path}.")
    reports = [_kept(lint_file(path), chosen) for path in python_files(given)]
    if not reports:
        raise Trouble(f"There are no Python files in {', '.join(map(str, given))}.")
    for line in _WAYS[format](reports):
        typer.echo(line)
    found = sum(len(report.findings) for report in reports)
    bad = sum(report.problem is not None for report in reports)
    if format is Format.TEXT:
        tell(_verdict(len(reports), found, bad))
    if found or bad:
        raise typer.Exit(UNREADABLE if bad else FOUND)


def _kept(report: Report, chosen: set[str]) -> Report:
    findings = [finding for finding in report.findings if finding.code in chosen]
    return Report(report.path, findings, report.problem, report.line, report.column)


def _rule(code: str) -> Rule:
    rule = BY_CODE.get(code.upper())
    if rule is None:
        near = did_you_mean(code.upper(), BY_CODE)
        raise Trouble(f"There is no rule {code!r}.{near} `perdure lint --rules` lists them.")
    return rule


def _verdict(files: int, found: int, bad: int) -> str:
    looked = "1 file" if files == 1 else f"{files} files"
    if not found and not bad:
        return f"Nothing was found in {looked}."
    told = "1 finding" if found == 1 else f"{found} findings"
    unread = f", {bad} couldn't be read" if bad else ""
    return f"{told} in {looked}{unread}. Why, and what to write instead: perdure lint --explain CODE"


# -- formats --------------------------------------------------------------------------------------------


def _text(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        if report.problem is not None:
            yield printable(f"{report.path}:{report.line}:{report.column}: {report.problem}")
        for found in report.findings:
            yield printable(f"{report.path}:{found.line}:{found.column}: {found.code} {found.message}")


def _json(reports: Sequence[Report]) -> Iterator[str]:
    yield json.dumps([entry for report in reports for entry in _entries(report)], indent=2)


def _entries(report: Report) -> Iterator[dict[str, Any]]:
    path = str(report.path)
    if report.problem is not None:
        yield {
            "path": path,
            "line": report.line,
            "column": report.column,
            "code": None,
            "message": report.problem,
        }
    for found in report.findings:
        yield {
            "path": path,
            "line": found.line,
            "column": found.column,
            "code": found.code,
            "message": found.message,
            "fix": BY_CODE[found.code].fix,
        }


def _github(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        if report.problem is not None:
            yield f"::error file={_property(report.path)},line={report.line}::{_escaped(report.problem)}"
        for found in report.findings:
            yield _annotation(report.path, found)


def _annotation(path: Path, found: Finding) -> str:
    place = f"file={_property(path)},line={found.line},col={found.column},endLine={found.end}"
    text = f"{found.message}. {BY_CODE[found.code].fix}"
    return f"::error {place},title={found.code}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(path: Path) -> str:
    return _escaped(str(path)).replace(":", "%3A").replace(",", "%2C")


_WAYS = {Format.TEXT: _text, Format.JSON: _json, Format.GITHUB: _github}


def _explained(rule: Rule) -> str:
    parts = [
        f"{rule.code}: {rule.name}",
        textwrap.fill(rule.why, 100),
        textwrap.fill(f"Instead: {rule.fix}", 100),
        "Reported:\n\n" + textwrap.indent(rule.bad, "    "),
        "Fine:\n\n" + textwrap.indent(rule.good, "    "),
    ]
    if rule.guarded:
        parts.append("@workflow(guard=False) switches this rule off for a workflow.")
    return "\n\n".join(part.rstrip() for part in parts)
