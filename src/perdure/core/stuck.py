"""Runs that don't go on, grouped by cause, each group with what helps all of it.

Who looks after thousands of runs has a few problems, not thousands: a budget that is spent, a worker that isn't there,
a step whose outcome nobody knows. Pure functions; what is known of the runs comes from `api/stuck.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from perdure.core.why import Cause

#: Characters that stand for themselves in a path.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

#: Runs that a group names, at most.
NAMED = 100

TITLES = {
    "pause": "Paused",
    "decision": "A step waits for a person's decision",
    "refused": "A provider refused a call",
    "budget": "A budget is spent",
    "worker": "No worker can go on with them",
    "code": "The code doesn't fit their histories",
    "crashes": "They may be killing their workers",
    "history": "Their histories are damaged",
    "full": "Their histories are full",
    "queue": "They stand in line",
    "limit": "A rate limit holds steps back",
    "question": "They wait for an answer",
    "slow": "They take much longer than usual",
}


class Action(msgspec.Struct, frozen=True):
    """A call of the API that helps.

    Attributes:
        label: the verb, for a button.
        path: below /api/v1. `{id}` and `{step}` stand for those of one of the group's runs, and the action is for
            one run at a time then.
        body: of JSON; None if there is none. Where a step is decided about, `since` of the run that was looked at can
            be put into it: then it counts for no later wait.
        asks: a field of the body that a person has to fill in; "" if there is none.
        role: that it takes.
        danger: it can't be taken back.
    """

    label: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    asks: str = ""
    role: str = "operator"
    danger: bool = False

    @property
    def each(self) -> bool:
        """It is for one run at a time."""
        return "{id}" in self.path


class Held(msgspec.Struct, frozen=True):
    """A run that doesn't go on.

    Attributes:
        since: wall-clock seconds.
        step: which a decision is about, "" if there is none.
    """

    id: str
    workflow: str
    status: str
    since: float | None = None
    step: str = ""


class Group(msgspec.Struct, frozen=True):
    """Runs that don't go on for one cause.

    Attributes:
        kind: of the cause, see `Cause`; or "slow".
        title: what is the matter, in a few words.
        what: the same of one of them in detail.
        count: how many runs (of "limit": steps) there are; with `more`, at least.
        since: wall-clock seconds, of the longest one, as far as it is known.
        todo: what helps, as a command to type where there is one.
        runs: some of them, 100 at most.
        actions: calls of the API that help.
    """

    kind: str
    title: str
    what: str
    count: int
    more: bool = False
    since: float | None = None
    todo: str = ""
    runs: tuple[Held, ...] = ()
    actions: tuple[Action, ...] = ()


_RESUME = Action("Resume", "POST", "/runs/{id}/resume")
_CANCEL = Action("Cancel", "POST", "/runs/{id}/cancel", {}, danger=True)
_TERMINATE = Action("Terminate", "POST", "/runs/{id}/terminate", {}, danger=True)
_RERUN = Action("Run the step again", "POST", "/runs/{id}/steps/{step}/resolve", {"rerun": True})
_FAIL = Action("Let the step fail", "POST", "/runs/{id}/steps/{step}/resolve", {"fail": True}, danger=True)


def remedies(kind: str, *, budget: str = "", owner: str = "") -> tuple[Action, ...]:
    """The calls that help with a cause. Names are put into paths by whoever sends them; they are quoted here."""
    match kind:
        case "pause":
            return (_RESUME,)
        case "decision":
            return _RERUN, _FAIL
        case "refused":
            return (_FAIL,)
        case "budget":
            body: dict[str, Any] = {"usd": ""} | ({"owner": owner} if owner else {})
            more = Action("Raise", "POST", f"/budgets/{quoted(budget)}/raise", body, asks="usd", role="admin")
            return more, _FAIL
        case "slow" | "code" | "full":
            return (_CANCEL,)
        case "crashes" | "nothing":
            return (_TERMINATE,)
        case "history":
            return _RESUME, _TERMINATE
        case _:
            return ()


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return "".join(
        char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in char.encode()) for char in name
    )


def grouped(found: Iterable[tuple[Held, Cause]]) -> list[Group]:
    """Runs with their causes, as groups, the largest first."""
    groups: dict[tuple[str, ...], list[tuple[Held, Cause]]] = {}
    for held, cause in found:
        step = cause.step.partition(":")[0].partition("#")[0]
        groups.setdefault((cause.kind, held.workflow, step, cause.budget, cause.owner), []).append(
            (held, cause)
        )
    made = [_group(members) for members in groups.values()]
    return sorted(made, key=lambda group: -group.count)


def _group(members: Sequence[tuple[Held, Cause]]) -> Group:
    (_, first), *_ = members
    return Group(
        kind=first.kind,
        title=TITLES.get(first.kind, "Blocked"),
        what=first.what,
        count=len({held.id for held, _ in members}),
        since=min((held.since for held, _ in members if held.since is not None), default=None),
        todo=first.todo,
        runs=tuple(held for held, _ in members[:NAMED]),
        actions=remedies(first.kind, budget=first.budget, owner=first.owner),
    )


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which this share of the values is, nearest rank. There must be one."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]
