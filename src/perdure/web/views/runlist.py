"""The list of runs, without a page: what is wanted, as an address says it; what is shown; what is done with many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlencode

from perdure.api.runinfo import RunInfo, moment_of
from perdure.api.wording import duration, one_line
from perdure.core.attributes import conditions_of
from perdure.core.status import FINAL, Status
from perdure.core.timeline import Wait
from perdure.errors import UsageError
from perdure.web.conditions import conditions

SIZE: Final = 50  #: runs on a page
MANY: Final = 5_000  #: so many are changed at once, at most
NEWS: Final = 500  #: so many new ones are looked at

#: In the order in which runs go through them; a continued run isn't listed, its next generation is.
STATUSES: Final = tuple(status for status in Status if status is not Status.CONTINUED)

WINDOWS: Final[Mapping[str, tuple[str, timedelta | None]]] = {
    "": ("Any time", None),
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(days=1)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}

# -- what is wanted -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list.

    Attributes:
        within: a key of WINDOWS: how long ago they were started at most.
        since, until: moments as texts in ISO 8601; without a zone they are UTC.
        attributes: conditions as texts, such as "total>=100".
        cursor: of the page; "" is the first one.
    """

    statuses: tuple[str, ...] = ()
    workflow: str = ""
    text: str = ""
    within: str = ""
    since: str = ""
    until: str = ""
    attributes: tuple[str, ...] = ()
    cursor: str = ""

    @classmethod
    def read(cls, query: str) -> Wanted:
        """From an address's query. What it can't read it leaves out: addresses are typed, and grow old.

        Example:
            >>> Wanted.read("?status=failed&status=lost&text=order-7").statuses
            ('failed',)
        """
        given = parse_qs(query.removeprefix("?"))

        def one(name: str, most: int) -> str:
            return given.get(name, [""])[-1].strip()[:most]

        within = one("within", 8)
        return cls(
            statuses=tuple(status.value for status in STATUSES if status.value in given.get("status", ())),
            workflow=one("workflow", 255),
            text=one("text", 200),
            within=within if within in WINDOWS else "",
            since=_moment_text(one("since", 40)),
            until=_moment_text(one("until", 40)),
            attributes=tuple(dict.fromkeys(text for text in given.get("attribute", ())[:20] if _fits(text))),
            cursor=one("cursor", 40),
        )

    @property
    def address(self) -> str:
        """The path and query that lead to this list.

        Example:
            >>> Wanted(statuses=("failed", "blocked"), text="a b").address
            '/runs?status=failed&status=blocked&text=a+b'
        """
        pairs = [("status", status) for status in self.statuses]
        pairs += [("attribute", text) for text in self.attributes]
        for name in ("workflow", "text", "within", "since", "until", "cursor"):
            if value := getattr(self, name):
                pairs.append((name, value))
        return "/runs" + (f"?{urlencode(pairs)}" if pairs else "")

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return replace(self, cursor="") != Wanted()

    def filters(self, now: datetime) -> dict[str, Any]:
        """What to ask an engine's `runs_page` for; the cursor aside.

        Raises:
            UsageError: a condition can't be one.
        """
        span = WINDOWS[self.within][1]
        since = _moment(self.since) if span is None else now - span
        return {
            "status": self.statuses,
            "workflow": self.workflow or None,
            "text": self.text or None,
            "since": since,
            "until": _moment(self.until),
            "attributes": conditions(self.attributes),
        }

    def toggled(self, status: str) -> Wanted:
        """The same list with one status more, or less."""
        chosen = set(self.statuses) ^ {status}
        return replace(self, statuses=tuple(each.value for each in STATUSES if each in chosen), cursor="")

    def told(self) -> str:
        """What is left, in words.

        Example:
            >>> Wanted(statuses=("failed",), within="24h").told()
            'failed, last 24 hours'
        """
        parts = [" or ".join(self.statuses), self.workflow, f'with "{self.text}"' if self.text else ""]
        parts += [WINDOWS[self.within][0].lower() if self.within else "", *self.attributes]
        parts += [f"since {self.since}" if self.since else "", f"until {self.until}" if self.until else ""]
        return ", ".join(filter(None, parts))


def _fits(text: str) -> bool:
    try:
        return bool(conditions_of(conditions([text])))
    except UsageError:
        return False


def _moment_text(text: str) -> str:
    return text if _moment(text) is not None else ""


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if found is None or found.tzinfo is not None:
        return found
    return found.replace(tzinfo=UTC)


# -- what is shown --------------------------------------------------------------------------------------


def arranged(shown: Sequence[RunInfo], found: Sequence[RunInfo]) -> tuple[list[RunInfo], int]:
    """What to show of what was found without moving what is there, and how many newer ones wait above.

    Args:
        shown: what is there, newest first.
        found: what matches now, newest first, with room for newer ones.
    """
    if not shown:
        return list(found[:SIZE]), 0
    newest = shown[0].created_at
    above = next((place for place, run in enumerate(found) if run.created_at <= newest), len(found))
    if above == len(found) > 0:  # all that was looked at is newer
        return list(shown), above
    return list(found[above : above + SIZE]), above


def counted(total: int | None, more: bool) -> str:
    """How many there are, as far as anybody counted.

    Example:
        >>> counted(1, False), counted(1000, True), counted(None, False)
        ('1 run', '1,000+ runs', '')
    """
    if total is None:
        return ""
    return f"{total:,}{'+' if more else ''} run{'' if total == 1 and not more else 's'}"


def lasted(run: RunInfo, now: datetime) -> float:
    """Seconds from its start to its end, or to now."""
    return max(((run.ended_at or now) - run.created_at).total_seconds(), 0.0)


_WAITS: Final[Mapping[str, str]] = {
    "step": "step {id}",
    "retry": "retry of {id}",
    "limit": "rate limit {detail}",
    "decision": "a decision about {id}",
    "refused": "{id}, refused",
    "budget": "budget for {id}",
    "timer": "timer",
    "child": "child {detail}",
    "message": "message {id}",
    "callback": "callback",
    "question": "answer: {detail}",
    "event": "event {id}",
    "update": "update {detail}",
}
_DECIDES: Final = ("question", "decision", "refused", "budget")
_CLOCKS: Final = ("timer", "retry", "limit")
_EXPLAINED: Final = frozenset(Status) - {Status.QUEUED, Status.RUNNING, Status.WAITING, Status.COMPLETED}
_LINE: Final = 120  # characters


def waits_for(run: RunInfo, now: datetime) -> str:
    """What a run waits for, or why it is where it is, in a few words: what needs somebody comes first."""
    if run.reason and run.status in _EXPLAINED:
        return one_line(run.reason, _LINE)
    if run.status.final or not run.waiting_for:
        return ""
    first, *others = sorted(run.waiting_for, key=lambda wait: (wait.kind not in _DECIDES, -wait.since))
    return one_line(_one_wait(first, now), _LINE) + (f" and {len(others):,} more" if others else "")


def _one_wait(wait: Wait, now: datetime) -> str:
    told = _WAITS.get(wait.kind, "{kind} {id}").format(kind=wait.kind, id=wait.id, detail=wait.detail)
    if wait.kind not in _CLOCKS or wait.until is None:
        return told
    left = max((moment_of(wait.until) - now).total_seconds(), 0.0)
    coarse = left if left < 90 else left // 60 * 60  # a row that tells of seconds is a row that never rests
    return f"{told} in {duration(coarse)}"


# -- what can be done with many -------------------------------------------------------------------------


class Deed(NamedTuple):
    """What can be done with many runs at once.

    Attributes:
        path: what follows a run's path in the API.
        verb, done: "Cancel", "Cancelled".
        means: what it does, in a sentence.
        of: the statuses of runs that it can be done with.
        reasoned: the API takes a reason.
    """

    path: str
    verb: str
    done: str
    means: str
    of: frozenset[Status]
    reasoned: bool = False
    danger: bool = False


_LIVE: Final = frozenset(Status) - FINAL
DEEDS: Final = (
    Deed(
        "cancel",
        "Cancel",
        "Cancelled",
        "Each is asked to end; its code may tidy up first.",
        _LIVE,
        reasoned=True,
        danger=True,
    ),
    Deed(
        "terminate",
        "Terminate",
        "Terminated",
        "Each ends at once. No code of theirs runs any more, so nothing is tidied up.",
        _LIVE,
        reasoned=True,
        danger=True,
    ),
    Deed(
        "pause",
        "Pause",
        "Paused",
        "Each begins nothing new until somebody resumes it.",
        _LIVE - {Status.PAUSED},
        reasoned=True,
    ),
    Deed(
        "resume",
        "Resume",
        "Resumed",
        "Each goes on where it was paused.",
        frozenset({Status.PAUSED}),
    ),
    Deed(
        "retry",
        "Retry",
        "Retried",
        "Each goes on from the step that failed; what was done before isn't done again.",
        frozenset({Status.FAILED}),
    ),
)


def runs_told(count: int) -> str:
    """A number of runs in words."""
    return f"{count:,} run" + ("" if count == 1 else "s")


def left_out(deed: Deed, statuses: Iterable[str]) -> str:
    """Why some runs are left out of a deed; "" if none is.

    Example:
        >>> left_out(DEEDS[0], ["completed", "completed", "failed"])
        'Left out: 2 completed, 1 failed.'
    """
    counts: dict[str, int] = {}
    for status in statuses:
        if status not in deed.of:
            counts[status] = counts.get(status, 0) + 1
    told = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    return f"Left out: {told}." if told else ""
