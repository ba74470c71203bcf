"""What `crash_everywhere` has found, as a report for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

#: The result isn't that of a run without crashes; a step was executed twice; the code doesn't fit its own history; the
#: run doesn't end any more.
Kind: TypeAlias = Literal["differs", "ran twice", "diverged", "stuck"]

_TITLES: Final[dict[Kind, str]] = {
    "differs": "the outcome differs",
    "ran twice": "a step ran twice, and nothing says that this is harmless",
    "diverged": "the code diverged from its history",
    "stuck": "the run doesn't end any more",
}

_ADVICE: Final[dict[Kind, str]] = {
    "differs": "What the run comes to depends on something that isn't recorded, such as a global variable, the time or "
    "a random number; or a step's second attempt finds what its first one left. Take them from a @step, perdure.now() "
    "or perdure.random(). If results may differ, say by same= what counts.",
    "ran twice": "A crash between what a step does and its record makes it run again. Give perdure.idempotency_key() "
    "to the service it calls; or write @step(once=True, verify=...), or @step(transaction=...) for databases. If it "
    'changes nothing outside, say so: @step(effect="read"). If doing it twice is the same as doing it once, say so '
    "here: idempotent=[...].",
    "diverged": "The code has to do the same for the same history: no time, random numbers, sets of strings, files or "
    "globals but by steps and perdure's own functions.",
    "stuck": "Somebody has to act before it goes on. For a step with once=True, verify= tells what happened; else send "
    "in drive= what it waits for.",
}

#: Crashes that are listed under one finding.
_LISTED: Final = 5


class Finding(msgspec.Struct, frozen=True):
    """One thing that crashes change.

    Attributes:
        kind: what it is.
        subject: the step or run that it is about.
        told: what happened, at the first such crash.
        crashes: at which crashes it happened; empty if it did so without any.
    """

    kind: Kind
    subject: str
    told: str
    crashes: tuple[str, ...]


class CrashReport(msgspec.Struct, frozen=True):
    """What crashes do to a workflow.

    Attributes:
        workflow: its name.
        crashes: how many were tried, double ones as one.
        commits: how often an undisturbed run writes to its history.
        findings: what they change; nothing, if all is well.
    """

    workflow: str
    crashes: int
    commits: int
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        if not self.findings:
            return (
                f"{self.workflow}: {self.crashes} crashes, at each of its {self.commits} writes, and none of them "
                "changed anything"
            )
        bad = len({crash for finding in self.findings for crash in finding.crashes})
        lines = [f"{self.workflow}: {bad} of {self.crashes} crashes changed something"]
        if not self.crashes:
            lines = [f"{self.workflow} can't survive a crash: what it has done, it wouldn't do again"]
        for number, finding in enumerate(self.findings, 1):
            lines += ["", *_section(number, finding)]
        return "\n".join(lines)


def _section(number: int, finding: Finding) -> list[str]:
    head = f"{number}. {_TITLES[finding.kind]}: {finding.subject}"
    lines = [head, *_indented(finding.told)]
    crashes = finding.crashes
    if not crashes:
        lines.append("   Without any crash: its own history can't be replayed.")
    else:
        lines.append(f"   {_crashes(len(crashes))}:")
        lines += [f"     - {crash}" for crash in crashes[:_LISTED]]
        if len(crashes) > _LISTED:
            lines.append(f"     - and {len(crashes) - _LISTED} more")
    lines.append("   What to do:")
    return [*lines, *_wrapped(_ADVICE[finding.kind])]


def _crashes(number: int) -> str:
    return "After one crash" if number == 1 else f"After {number} crashes"


def _indented(text: str) -> list[str]:
    return [f"   {line}" for line in text.splitlines()]


def _wrapped(text: str, width: int = 100) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"     {word}")
    return lines


class CrashFailure(AssertionError):
    """Crashes change what a workflow does.

    Attributes:
        report: what they change.
    """

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report


def merged(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of one kind about one subject become one; those with the worst news first."""
    found: dict[tuple[Kind, str], Finding] = {}
    for finding in findings:
        key = (finding.kind, finding.subject)
        if key in found:
            known = found[key]
            found[key] = msgspec.structs.replace(known, crashes=(*known.crashes, *finding.crashes))
        else:
            found[key] = finding
    order: list[Kind] = ["diverged", "differs", "stuck", "ran twice"]
    return tuple(sorted(found.values(), key=lambda finding: order.index(finding.kind)))
