"""What came of it, for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.testing.torture.audit import Findings
from perdure.testing.torture.poison import Poisoning


@dataclass
class Report:
    """All figures, and the verdict.

    Attributes:
        cuts: connections that the server ended, None where there is no server.
        restarts: crashes of the server, None where it isn't ours to end.
        images: of losses of power that were tried, None where that can't be (PostgreSQL).
        full: how often there was no room on a small disk, None where none could be made.
        poisoning: what became of runs that kill their workers.
        faults: what is wrong, one line each.
    """

    database: str
    seed: int
    seconds: float
    started: int = 0
    completed: int = 0
    kills: int = 0
    pauses: int = 0
    refused: int = 0
    cuts: int | None = None
    restarts: int | None = None
    images: int | None = None
    full: int | None = None
    poisoning: Poisoning | None = None
    findings: Findings = field(default_factory=Findings)
    faults: list[str] = field(default_factory=list[str])

    @property
    def passed(self) -> bool:
        return not self.faults

    @property
    def told_nothing(self) -> str | None:
        """Why this proves nothing, if it doesn't."""
        if self.kills == 0:
            return "no worker was killed"
        if self.completed == 0:
            return "no run was completed"
        return None

    def lines(self) -> list[str]:
        """The report, one line after the other."""
        found = self.findings
        lines = [
            f"{self.database}, {self.seconds:.0f} s, seed {self.seed}",
            f"{self.started:,} random programs started, {self.completed:,} ended with the right result: "
            f"{found.runs:,} runs, {found.events:,} events, {found.steps:,} recorded steps",
            f"{self.kills:,} workers killed with SIGKILL, {self.pauses:,} paused past their lease; "
            f"{found.taken_over:,} take-overs of runs; the database refused the client {self.refused:,} times",
            f"{found.repeated:,} bodies ran again because their worker died before the outcome was recorded"
            + (f"; paused workers that woke up began {found.late:,} too late, in vain" if found.late else ""),
        ]
        if self.cuts is not None:
            lines.append(f"{self.cuts:,} connections to the server cut")
        if self.restarts is not None:
            lines.append(f"{self.restarts:,} crashes of the server, each followed by a start")
        if self.poisoning is not None:
            one = self.poisoning
            lines.append(
                f"{one.deadly:,} runs that kill their workers, of which {one.parked:,} were set aside with the reason "
                f"after {one.deaths:,} deaths; {one.healthy:,} healthy programs beside them ended right"
            )
        if self.full is not None:
            lines.append(f"{self.full:,} times nothing was left on a small disk")
        if self.images is not None:
            lines.append(f"{self.images:,} losses of power tried: images of torn, lost and reordered writes")
        lines += [f"WRONG: {fault}" for fault in self.faults[:20]]
        if len(self.faults) > 20:
            lines.append(f"and {len(self.faults) - 20:,} more")
        return [*lines, *self._verdict()]

    def _verdict(self) -> list[str]:
        if not self.passed:
            return [f"FAILED: {len(self.faults):,} faults. Please report them with the seed and the folder."]
        if (nothing := self.told_nothing) is not None:
            return [f"NOTHING SHOWN: {nothing}. Give it more seconds."]
        bounds = [f"fewer than {3 / self.completed:.2%} of such runs go wrong"]
        if self.images:
            bounds.append(f"fewer than {3 / self.images:.2%} of such losses of power lose something")
        return [
            "PASSED: nothing acknowledged was lost, recorded twice, done again after it was recorded, or stuck.",
            f"With 95 % confidence (3/N), {' and '.join(bounds)}.",
        ]
