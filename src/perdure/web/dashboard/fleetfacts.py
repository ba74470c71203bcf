"""What pages tell of queues, limits, schedules, workers and budgets: words, tones and shares, drawn by nobody here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from perdure.api.budgets import AccountInfo, BudgetInfo
from perdure.api.limits import LimitInfo, UnitInfo
from perdure.api.queues import QueueInfo
from perdure.api.scheduleinfo import ScheduleInfo
from perdure.api.workerinfo import WorkerInfo
from perdure.core.rates import Rate


class Standing(NamedTuple):
    """How something stands, in a word, and how much that asks for attention."""

    word: str
    tone: str


class Share(NamedTuple):
    """How much of something is used.

    Attributes:
        part: from 0 to 1.
        text: the same in words.
        tone: how near the end is.
    """

    part: float
    text: str
    tone: str


_PERIODS: Final = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
_OVERLAPS: Final = {
    "skip": "skip a slot while an earlier run goes on",
    "buffer_one": "let one slot wait for an earlier run's end",
    "buffer_all": "let all slots wait for an earlier run's end",
    "allow": "run side by side",
    "cancel_other": "cancel the earlier run",
}


def per_text(seconds: float) -> str:
    """A window's length, as in "per minute".

    Example:
        >>> per_text(60.0), per_text(90.0)
        ('per minute', 'per 90 s')
    """
    name = next((name for size, name in _PERIODS if size == seconds), None)
    return f"per {name}" if name else f"per {seconds:g} s"


def rate_text(rate: Rate) -> str:
    """So many per so long.

    Example:
        >>> rate_text(Rate(500, per=60))
        '500 per minute'
    """
    return f"{count(rate.limit)} {per_text(rate.per)}" + (f", {rate.burst} at once" if rate.burst else "")


def count(number: int) -> str:
    """A number for people.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return f"{number:,}"


def size(number: int) -> str:
    """Bytes for people.

    Example:
        >>> size(512), size(2048), size(3_400_000)
        ('512 B', '2.0 kB', '3.2 MB')
    """
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GB"


def usd(amount: Decimal) -> str:
    """US dollars, as exactly as anybody wants to know.

    Example:
        >>> usd(Decimal("12.3456")), usd(Decimal("0.00042")), usd(Decimal(0))
        ('$12.35', '$0.0004', '$0.00')
    """
    return f"${amount:,.4f}" if 0 < abs(amount) < Decimal("0.1") else f"${amount:,.2f}"


# -- queues ---------------------------------------------------------------------------------------------


def queue_standing(queue: QueueInfo) -> Standing:
    """What holds of a queue that somebody should know first."""
    if queue.paused:
        return Standing("paused", "hold")
    if queue.draining:
        return Standing("draining", "hold")
    if not queue.workers:
        return Standing("no worker", "bad" if queue.queued or queue.running else "idle")
    if queue.next_at is not None:
        return Standing("at its rate", "wait")
    if queue.concurrency is not None and queue.running >= queue.concurrency:
        return Standing("full", "wait")
    return Standing("busy", "busy") if queue.queued or queue.running else Standing("idle", "idle")


def queue_limits(queue: QueueInfo) -> list[tuple[str, str]]:
    """A queue's limits by name; those that an operator has set say so."""
    found: list[tuple[str, str, str]] = []
    if queue.concurrency is not None:
        found.append(("concurrency", "At once", count(queue.concurrency)))
    if queue.per_worker is not None:
        found.append(("per_worker", "On one worker", count(queue.per_worker)))
    if queue.per_key is not None:
        found.append(("per_key", "Of one key", count(queue.per_key)))
    if queue.rate is not None:
        found.append(("rate", "Beginning", rate_text(queue.rate)))
    if queue.priority:
        found.append(("priority", "Order", "higher priority first"))
    if queue.fairness is not None:
        found.append(("fairness", "Fairness", "keys take turns"))
    told = {name for name, _, _ in found}
    lifted = [(name, name.replace("_", " "), "no limit") for name in queue.overridden if name not in told]
    return [
        (title, text + (" (set by an operator)" if name in queue.overridden else ""))
        for name, title, text in [*found, *lifted]
    ]


def queue_limits_line(queue: QueueInfo) -> str:
    """The same in a line, for a list."""
    return ", ".join(
        f"{title.lower()} {text}" for title, text in queue_limits(queue) if "no limit" not in text
    )


def running_text(queue: QueueInfo) -> str:
    """How many run, and of how many."""
    return (
        count(queue.running)
        if queue.concurrency is None
        else f"{count(queue.running)} of {count(queue.concurrency)}"
    )


# -- rate limits ----------------------------------------------------------------------------------------


def limit_standing(limit: LimitInfo, now: datetime) -> Standing:
    if limit.blocked_until is not None and limit.blocked_until > now:
        return Standing("blocked", "hold")
    if any(unit.waiting for unit in limit.units.values()):
        return Standing("waiting", "wait")
    return Standing("open", "good")


def unit_share(unit: UnitInfo) -> Share:
    """How much of what may begin at one moment is free."""
    most = unit.rate.pace.burst
    free = max(0, min(unit.free, most))
    told = f"{count(free)} of {count(most)} free now, {rate_text(unit.rate)}"
    if unit.waiting:
        told += f"; {count(unit.waiting)} wait"
    return Share(free / most, told, "hold" if unit.waiting else "good")


# -- schedules ------------------------------------------------------------------------------------------


def timing_text(schedule: ScheduleInfo) -> str:
    """When a schedule's slots are."""
    if schedule.cron is not None:
        return f"{schedule.cron} ({schedule.tz})"
    if schedule.every is not None:
        return f"every {span(schedule.every)}"
    return "once"


def span(length: timedelta) -> str:
    """A length of time to the second.

    Example:
        >>> span(timedelta(hours=1)), span(timedelta(minutes=90)), span(timedelta(seconds=0.5))
        ('1 h', '1 h 30 min', '0.5 s')
    """
    seconds = length.total_seconds()
    if seconds % 1:
        return f"{seconds:g} s"
    told: list[str] = []
    left = int(seconds)
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= unit:
            told.append(f"{left // unit} {name}")
            left %= unit
    return " ".join(told) or "0 s"


def schedule_standing(schedule: ScheduleInfo) -> Standing:
    if schedule.paused:
        return Standing("paused", "hold")
    if not schedule.next:
        return Standing("over", "idle")
    return Standing("active", "good")


def schedule_facts(schedule: ScheduleInfo) -> list[tuple[str, str]]:
    """What a schedule does besides its timing."""
    found = [
        ("Workflow", schedule.workflow),
        ("Queue", schedule.queue),
        ("Timing", timing_text(schedule)),
        ("If a run still goes on", _OVERLAPS.get(schedule.overlap, str(schedule.overlap))),
        ("Missed slots", f"run if at most {span(schedule.catch_up)} late"),
    ]
    if schedule.jitter:
        found.append(("Jitter", f"up to {span(schedule.jitter)} late"))
    told = [f"{count(schedule.fired)} run{'' if schedule.fired == 1 else 's'} started"]
    if schedule.skipped:
        told.append(f"{count(schedule.skipped)} slots skipped")
    if schedule.missed:
        told.append(f"{count(schedule.missed)} missed")
    if schedule.buffered:
        told.append(f"{count(len(schedule.buffered))} wait")
    return [*found, ("So far", ", ".join(told))]


# -- workers --------------------------------------------------------------------------------------------

_WORKERS: Final = {"alive": "good", "late": "hold", "stopping": "wait", "gone": "bad"}


def worker_standing(worker: WorkerInfo) -> Standing:
    """A worker that stops lets its last steps end: it drains."""
    return Standing("draining" if worker.state == "stopping" else worker.state, _WORKERS[worker.state])


def worker_rows(workers: Sequence[WorkerInfo]) -> list[WorkerInfo]:
    """Those that ask for attention first, then by name."""
    order = ("gone", "late", "stopping", "alive")
    return sorted(workers, key=lambda worker: (order.index(worker.state), worker.name, worker.pid))


def versions(workers: Sequence[WorkerInfo]) -> list[tuple[str, int, tuple[str, ...]]]:
    """By version of the code: how many live workers have it, and the workflows that all of those know."""
    found: dict[str, list[WorkerInfo]] = {}
    for worker in workers:
        if worker.state != "gone":
            found.setdefault(worker.version or "no version", []).append(worker)
    return [
        (version, len(those), tuple(sorted(set.intersection(*(set(each.workflows) for each in those)))))
        for version, those in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    ]


# -- budgets --------------------------------------------------------------------------------------------

_NEAR: Final = 0.9  # of a cap is worth a look


def account_share(account: AccountInfo) -> Share:
    """How much of an account's cap is spent or reserved: of dollars, else of tokens."""
    if account.usd is not None:
        used, cap = account.spent + account.reserved + account.unknown, account.usd
        text = f"{usd(used)} of {usd(cap)}"
        part = float(used / cap) if cap else 1.0
    elif account.tokens is not None:
        tokens = account.spent_tokens + account.reserved_tokens + account.unknown_tokens
        text = f"{count(tokens)} of {count(account.tokens)} tokens"
        part = tokens / account.tokens if account.tokens else 1.0
    else:
        return Share(0.0, f"{usd(account.spent)}, no cap", "idle")
    tone = "bad" if part >= 1 or account.waiting else "hold" if part >= _NEAR else "good"
    return Share(min(1.0, part), text, tone)


def account_standing(account: AccountInfo) -> Standing:
    if account.tripped_since is not None:
        return Standing("breaker open", "bad")
    if account.waiting:
        return Standing(f"{count(account.waiting)} waiting", "bad")
    share = account_share(account)
    if share.tone == "bad":
        return Standing("used up", "hold")
    return Standing("nearly used up", "hold") if share.tone == "hold" else Standing("ok", "good")


def budget_standing(budget: BudgetInfo) -> Standing:
    """That of the account that asks most for attention."""
    order = ("bad", "hold", "good", "idle")
    found = [account_standing(account) for account in budget.accounts]
    return min(found, key=lambda each: order.index(each.tone), default=Standing("unused", "idle"))


def account_rows(accounts: Sequence[AccountInfo]) -> list[AccountInfo]:
    """Those that wait first, then those of the newest day, and of these the fullest."""
    return sorted(
        sorted(accounts, key=lambda each: each.owner),
        key=lambda each: (
            each.tripped_since is not None,
            each.waiting > 0,
            each.day,
            account_share(each).part,
        ),
        reverse=True,
    )


def account_name(account: AccountInfo, budget: BudgetInfo) -> str:
    """Whose account it is."""
    return account.owner or ("without a key" if budget.per == "key" else "all")
