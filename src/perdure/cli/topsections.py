"""What the sections of `perdure top` tell: rows of a look, in the order and with the filter that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import wrap
from typing import Final, NamedTuple

from rich.text import Text

from perdure.api.watch import Look, QueuePace, WorkflowPace
from perdure.api.wording import one_line
from perdure.api.workerinfo import WorkerInfo
from perdure.cli.output import STATUS_STYLES
from perdure.core.status import Status

SORTS: Final = ("load", "rate", "trouble", "name")
SECTIONS: Final = ("stuck", "workflows", "queues", "steps", "workers", "spending")

_STATES: Final = {"alive": "green", "late": "yellow", "stopping": "yellow", "gone": "bold red"}


@dataclass
class Showing:
    """What somebody at the keyboard has chosen, and how looking goes.

    Attributes:
        alone: the only section that is shown.
        typing: the filter is being typed.
        trouble: why the database can't be looked at.
    """

    url: str = ""
    every: float = 2.0
    sort: str = SORTS[0]
    filter: str = ""
    typing: bool = False
    paused: bool = False
    helping: bool = False
    alone: str | None = None
    trouble: str = ""


class Row(NamedTuple):
    """One line of a section."""

    cells: Sequence[str | Text]
    name: str  # what a filter looks for


@dataclass
class Section:
    """A table with a title. The column `stretch` takes what the others leave."""

    title: str
    columns: Sequence[str]
    right: frozenset[int]
    stretch: int
    rows: list[Row] = field(default_factory=list[Row])


def sections_of(look: Look, showing: Showing, now: datetime) -> list[Section]:
    made = {
        "stuck": _stuck(look, now),
        "workflows": _workflows(look, showing.sort),
        "queues": _queues(look, showing.sort, now),
        "steps": _steps(look, showing.sort, now),
        "workers": _workers(look, showing.sort, now),
        "spending": _spending(look),
    }
    for section in made.values():
        if showing.filter:
            wanted = showing.filter.casefold()
            section.rows = [row for row in section.rows if wanted in row.name.casefold()]
    if showing.alone is not None:
        return [made[showing.alone]]
    return [
        section
        for name, section in made.items()
        if section.rows or name in ("workflows", "queues", "workers")
    ]


def _stuck(look: Look, now: datetime) -> Section:
    section = Section("stuck", ("runs", "what", "since", "why, what helps"), frozenset({0, 2}), 3)
    for group in look.stuck:
        since = "" if group.since is None else age_text(now.timestamp() - group.since)
        told = Text(one_line(group.what, 200))
        if group.todo:
            told.append(f" → {one_line(group.todo, 200)}", style="cyan")
        count = f"{group.count:,}{'+' if group.more else ''}"
        title = Text(one_line(group.title, 34), style="yellow")
        names = " ".join(held.workflow for held in group.runs)
        section.rows.append(Row((count, title, since, told), f"{group.title} {group.what} {names}"))
    return section


def stuck_in_full(look: Look, showing: Showing, width: int, now: datetime) -> list[Text]:
    """What is stuck, with all that is known of it, as lines."""
    lines: list[Text] = []
    inner = max(20, width - 7)
    for group, row in zip(look.stuck, _stuck(look, now).rows, strict=True):
        if showing.filter and showing.filter.casefold() not in row.name.casefold():
            continue
        count, title, since, _ = row.cells
        head = Text(f"{count:>6} ").append(str(title), style="bold yellow")
        lines.append(head.append(f", for {since}" if since else "", style="dim"))
        lines += [Text(f"       {part}") for part in wrap(one_line(group.what, 1000), inner)]
        lines += [Text(f"       {part}", style="cyan") for part in wrap(one_line(group.todo, 1000), inner)]
        ids = ", ".join(one_line(held.id, 40) for held in group.runs[:5])
        if ids:
            lines.append(Text(f"       {ids}{', ...' if group.count > 5 else ''}", style="dim"))
    return lines or [Text("nothing is stuck", style="dim")]


def _workflows(look: Look, sort: str) -> Section:
    columns = ("workflow", "queued", "running", "waiting", "blocked", "ended/s", "failed", "p50", "p95")
    section = Section("workflows", columns, frozenset(range(1, 9)), 0)

    def order(pace: WorkflowPace) -> tuple[float, str]:
        share = pace.failed / pace.ended if pace.ended else 0.0
        number = {
            "load": pace.live,
            "rate": pace.ended,
            "trouble": share + pace.runs.get("blocked", 0),
            "name": 0,
        }
        return -number[sort], pace.name

    for pace in sorted(look.workflows, key=order):
        numbers = [
            Text(
                f"{number:,}" if number else "-",
                style=str(STATUS_STYLES[Status(status)]) if number else "dim",
            )
            for status in ("queued", "running", "waiting", "blocked")
            for number in [pace.runs.get(status, 0)]
        ]
        share = pace.failed / pace.ended if pace.ended else 0.0
        cells = (
            one_line(pace.name, 80),
            *numbers,
            rate(pace.ended, "") if pace.ended else Text("-", style="dim"),
            Text(f"{share:.1%}", style="red") if share else Text("-", style="dim"),
            "" if pace.p50 is None else age_text(pace.p50),
            "" if pace.p95 is None else age_text(pace.p95),
        )
        section.rows.append(Row(cells, pace.name))
    return section


def _queues(look: Look, sort: str, now: datetime) -> Section:
    columns = ("queue", "depth", "delayed", "running", "oldest", "ended/s", "workers", "")
    section = Section("queues", columns, frozenset(range(1, 7)), 0)

    def age(pace: QueuePace) -> float:
        return 0.0 if pace.info.oldest is None else (now - pace.info.oldest).total_seconds()

    def order(pace: QueuePace) -> tuple[float, str]:
        number = {"load": pace.info.queued, "rate": pace.ended, "trouble": age(pace), "name": 0}
        return -number[sort], pace.info.name

    for pace in sorted(look.queues, key=order):
        info = pace.info
        held = "paused" if info.paused else "draining" if info.draining else ""
        unserved = not info.workers and (info.queued or info.running)
        cells = (
            one_line(info.name, 60),
            f"{info.queued:,}",
            f"{info.delayed:,}",
            f"{info.running:,}" + ("" if info.concurrency is None else f"/{info.concurrency}"),
            "" if info.oldest is None else age_text(age(pace)),
            rate(pace.ended, ""),
            Text(str(len(info.workers)), style="bold red" if unserved else ""),
            Text(held or ("no worker" if unserved else ""), style="yellow"),
        )
        section.rows.append(Row(cells, info.name))
    return section


def _steps(look: Look, sort: str, now: datetime) -> Section:
    section = Section("steps", ("for", "step", "attempt", "run", "worker"), frozenset({0}), 3)
    steps = sorted(look.steps, key=lambda step: step.step) if sort == "name" else look.steps
    for step in steps:
        cells = (
            age_text((now - step.since).total_seconds()),
            one_line(step.step, 40),
            step.detail.removeprefix("attempt "),
            one_line(step.run, 60),
            one_line(step.worker, 24),
        )
        section.rows.append(Row(cells, f"{step.step} {step.workflow} {step.run} {step.worker}"))
    return section


def _workers(look: Look, sort: str, now: datetime) -> Section:
    columns = ("worker", "state", "heard", "runs", "steps", "version", "queues")
    section = Section("workers", columns, frozenset({2, 3, 4}), 6)

    def heard(at: datetime) -> float:
        return max(0.0, (now - at).total_seconds())

    def order(worker: WorkerInfo) -> tuple[float, float, str]:
        silence, load = heard(worker.last_heartbeat), worker.runs + worker.steps
        first, second = {
            "load": (-load, 0.0),
            "rate": (-worker.steps, 0.0),
            "trouble": (float(worker.state == "alive"), -silence),
            "name": (0.0, 0.0),
        }[sort]
        return first, second, worker.name

    for worker in sorted(look.workers, key=order):
        cells = (
            one_line(worker.name, 40),
            Text(worker.state, style=_STATES[worker.state]),
            age_text(heard(worker.last_heartbeat)),
            f"{worker.runs:,}",
            f"{worker.steps:,}",
            one_line(worker.version or "", 16),
            one_line(", ".join(worker.queues), 60),
        )
        section.rows.append(Row(cells, f"{worker.name} {' '.join(worker.queues)}"))
    return section


def _spending(look: Look) -> Section:
    section = Section("spending", ("budget", "", "spent", "of", "waiting"), frozenset({2, 3, 4}), 0)
    for budget in look.budgets:
        share = float(budget.spent / budget.usd) if budget.usd else 0.0
        style = "bold red" if share >= 1 else "yellow" if share >= 0.8 else "green"
        filled = min(10, int(share * 10))
        name = budget.name if not budget.owner else f"{budget.name} for {budget.owner}"
        cells = (
            one_line(name, 60),
            Text("█" * filled + "░" * (10 - filled), style=style),
            f"${budget.spent:,.2f}",
            "" if budget.usd is None else f"${budget.usd:,.2f}",
            f"{budget.waiting:,}" if budget.waiting else "-",
        )
        section.rows.append(Row(cells, name))
    return section


def rate(a_second: float, unit: str = "/s") -> str:
    return f"{a_second:,.0f}{unit}" if a_second >= 100 else f"{a_second:.3g}{unit}"


def age_text(seconds: float) -> str:
    """A length of time in five characters or so."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    for size, unit, smaller, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}{seconds % size // smaller:02.0f}{small}"
    return f"{seconds:.1f}s"
