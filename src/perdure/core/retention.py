"""Which runs have been kept long enough. Pure: what a rule says, and which rule counts for a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from perdure.core.status import FINAL, Status

#: How a run can have ended for good.
ENDS = tuple(sorted(status.value for status in FINAL if status is not Status.CONTINUED))


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long runs are kept.

    Attributes:
        after: seconds from a run's end after which it goes; None = it stays for ever.
        workflow: of these runs: a name, the last part of one, or a pattern with `*`; "" = of any.
        statuses: how they have ended; empty = in any way.
        archive: url of where they are written to before they go, "" = nowhere.
    """

    after: float | None
    workflow: str = ""
    statuses: tuple[str, ...] = ()
    archive: str = ""

    def fits(self, workflow: str, status: str) -> bool:
        """Whether it says something of a run.

        >>> Rule(0.0, "app.*", ("failed",)).fits("app.order", "failed")
        True
        """
        if self.statuses and status not in self.statuses:
            return False
        names = (workflow, workflow.rpartition(".")[2])
        return not self.workflow or any(fnmatchcase(name, self.workflow) for name in names)

    def __str__(self) -> str:
        whose = f"runs of {self.workflow}" if self.workflow else "runs"
        how = f" that {' or '.join(map(_ended, self.statuses))}" if self.statuses else " that ended"
        if self.after is None:
            return f"{whose}{how} stay for ever"
        then = f", after they were written to {self.archive}" if self.archive else ""
        return f"{whose}{how} go after {_told(self.after)}{then}"


def _ended(status: str) -> str:
    return "were " + status if status in ("cancelled", "terminated") else status


def _told(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} seconds"


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """Rules that name a workflow before those that don't; else as they come."""
    return sorted(rules, key=lambda rule: (not rule.workflow, "*" in rule.workflow))


def rule_for(rules: Sequence[Rule], workflow: str, status: str) -> Rule | None:
    """The first rule that says something of a run counts, also if it says that the run stays."""
    return next((rule for rule in rules if rule.fits(workflow, status)), None)


def soonest(rules: Iterable[Rule]) -> float | None:
    """After how many seconds a run may go at the earliest; None = no run ever goes."""
    return min((rule.after for rule in rules if rule.after is not None), default=None)
