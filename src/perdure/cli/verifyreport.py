"""What `perdure verify` tells: each cause with its diff and place once, and the runs it concerns."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from perdure.cli.output import out, printable, tell
from perdure.runtime.verifying import Cause
from perdure.runtime.verifyjobs import Findings, Group

FINE, UNFIT, UNVERIFIED = 0, 1, 2

_NAMED = 5  # ids of runs in a line
_SHOWN = 40  # lines of a text

_HEADS = {
    Cause.DIVERGES: "would diverge",
    Cause.UNDECODABLE: "hold a value that the new code can't read",
    Cause.FAILS: "would fail at once",
    Cause.SPINS: "don't come to an end of their replay",
    Cause.CRASHES: "end the process that replays them",
    Cause.UNKNOWN: "have no code here",
    Cause.DAMAGED: "have a damaged history",
    Cause.PINNED: "stay with the version that began them",
}


def exit_code(findings: Findings, ignored: frozenset[Cause]) -> int:
    """0 if all could go on, 1 if the code doesn't fit some, 2 if some couldn't be verified."""
    causes = {group.first.cause for group in findings.groups.values()} - ignored
    if any(cause.unfit for cause in causes):
        return UNFIT
    return UNVERIFIED if causes or findings.troubles else FINE


def facts(where: str, findings: Findings, ignored: frozenset[Cause]) -> dict[str, Any]:
    """All of it for programs."""
    code = exit_code(findings, ignored)
    return {
        "where": where,
        "verdict": ("fine", "unfit", "unverified")[code],
        "runs": findings.runs,
        "events": findings.events,
        "fine": findings.fine,
        "ended_meanwhile": findings.gone,
        "exported": findings.exported,
        "not_exported_redacted": findings.unredactable,
        "causes": {cause.value: count for cause in Cause if (count := findings.count(cause))},
        "groups": [_group(group, ignored) for group in _sorted(findings)],
        "troubles": findings.troubles,
    }


def _group(group: Group, ignored: frozenset[Cause]) -> dict[str, Any]:
    first = group.first
    return {
        "cause": first.cause.value,
        "ignored": first.cause in ignored,
        "workflow": first.workflow or None,
        "count": group.count,
        "history_says": first.history_says or None,
        "code_says": first.code_says or None,
        "places": list(first.places),
        "text": first.text,
        "runs": [{"id": id, "event": seq} for id, seq in sorted(group.runs)],
    }


def _sorted(findings: Findings) -> list[Group]:
    order = list(Cause)
    return sorted(findings.groups.values(), key=lambda group: (order.index(group.first.cause), -group.count))


def report(where: str, findings: Findings, ignored: frozenset[Cause]) -> None:
    """All of it for people: findings to stdout, the verdict to stderr."""
    for group in _sorted(findings):
        out().print(_told(group, ignored), soft_wrap=True)
    for trouble in findings.troubles:
        out().print(Text("trouble: ", style="bold red").append(printable(trouble)), soft_wrap=True)
    tell(_verdict(where, findings, ignored))


def _told(group: Group, ignored: frozenset[Cause]) -> Text:
    first, ids = group.first, [id for id, _ in sorted(group.runs)[:_NAMED]]
    head = "1 run: " if group.count == 1 else f"{group.count} runs "
    style = "bold red" if first.cause.unfit and first.cause not in ignored else "bold yellow"
    text = Text(head, style="bold").append(_HEADS[first.cause], style=style)
    if first.workflow:
        text.append(f"  ({printable(first.workflow)})", style="default")
    more = f" and {group.count - len(ids)} more" if group.count > len(ids) else ""
    lines = [f"  runs:         {', '.join(ids)}{more}"]
    if first.seq is not None:
        lines.append(f"  event:        {first.seq}" + (f" of run {first.run}" if group.count > 1 else ""))
    if first.history_says and first.cause is not Cause.PINNED:
        lines += [f"  history says: {first.history_says}", f"  code says:    {first.code_says}"]
    else:
        said = first.text.splitlines()[:_SHOWN]
        lines += [
            f"  why:          {line}" if number == 0 else f"    {line}" for number, line in enumerate(said)
        ]
    lines += [f"  code is at:   {place}" for place in first.places]
    return text.append("\n" + printable("\n".join(lines)) + "\n", style="default")


def _verdict(where: str, findings: Findings, ignored: frozenset[Cause]) -> str:
    looked = f"{_runs(findings.runs)} with {findings.events} events of {where}"
    if findings.gone:
        looked += f"; {findings.gone} more ended meanwhile"
    exported = ""
    if findings.exported or findings.unredactable:
        exported = f" {findings.exported} histories were recorded."
    if findings.unredactable:
        exported += f" {findings.unredactable} weren't: redacted, they don't take the same way (or the run isn't fine)."
    code = exit_code(findings, ignored)
    if code == FINE:
        left = findings.runs - findings.fine
        return (
            f"All could go on: {looked}" + (f", {left} of them left aside" if left else "") + f".{exported}"
        )
    unfit = sum(group.count for group in findings.groups.values() if group.first.cause.unfit)
    if code == UNFIT:
        return (
            f"{unfit} of {looked} couldn't go on with this code: they would be blocked until other code is deployed, "
            f"or fail.{exported} Ways to change code under live runs: docs/guide/changing-code.md"
        )
    return f"{findings.runs - findings.fine} of {looked} couldn't be verified.{exported}"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
