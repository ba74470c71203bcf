"""Budgets and their accounts: what is kept of them, and which of them cover a call. See budgets.py for what follows.

A budget has an account for each of those that it is given to: a run, a workflow, a key, a day. A call is charged to
every account that covers it: those of its run, of the runs that have started that one, of its key, of the day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from perdure.core.usage import dollars


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a budget says.

    Attributes:
        workflow: it covers runs of this workflow, and all that they start; None = every run.
        cost: the cap in billionths of a dollar, None = none.
        tokens: the cap on tokens, None = none.
        owner: "run", "workflow", "key": each of them has an account; "" = there is one for all.
        daily: each day (in UTC) has accounts of its own.
        on_exhausted: "pause", "ask" or "fail".
        spike: a breaker opens above so much in a minute, in billionths of a dollar.
    """

    name: str
    workflow: str | None = None
    cost: int | None = None
    tokens: int | None = None
    owner: str = ""
    daily: bool = False
    on_exhausted: str = "pause"
    spike: int | None = None


class Definition(msgspec.Struct, omit_defaults=True):
    """A budget as it is kept: as code declares it, and the caps that a person has set instead."""

    declared: Terms
    overruled: bool = False
    cost: int | None = None
    tokens: int | None = None

    @property
    def terms(self) -> Terms:
        """What holds."""
        if not self.overruled:
            return self.declared
        return msgspec.structs.replace(self.declared, cost=self.cost, tokens=self.tokens)


class AccountKey(NamedTuple):
    """Names an account. Everybody locks accounts in the order of these."""

    name: str  #: the budget's
    owner: str = ""
    day: str = ""


class Account(msgspec.Struct, omit_defaults=True):
    """What is kept of one account.

    Attributes:
        held, held_tokens: reserved for calls that aren't settled.
        extra, extra_tokens: by so much the cap was raised here.
        calls: that were settled.
        unpriced: those of them whose price nobody knows.
        version: grows whenever somebody has made room, so that nobody sleeps through it.
        tripped_at: since when the breaker is open.
        seen: by step, what its dearest call has cost, and used.
        recent: what was spent lately, by slot.
    """

    spent: int = 0
    spent_tokens: int = 0
    held: int = 0
    held_tokens: int = 0
    extra: int = 0
    extra_tokens: int = 0
    calls: int = 0
    unpriced: int = 0
    version: int = 0
    tripped_at: float | None = None
    seen: dict[str, tuple[int, int]] = {}
    recent: dict[int, int] = {}


class Kin(NamedTuple):
    """A run that is charged, or one that has started it."""

    id: str
    workflow: str
    key: str | None


def told_key(terms: Terms, key: AccountKey) -> str:
    """An account, for people.

    Example:
        >>> told_key(Terms("research", owner="run"), AccountKey("research", "r-1"))
        "'research' of run 'r-1'"
    """
    told = repr(key.name)
    if terms.owner:
        told += f" of {terms.owner} {key.owner!r}" if key.owner else f" of runs without a {terms.owner}"
    return f"{told} on {key.day}" if key.day else told


def money(cost: int) -> str:
    """An amount in dollars, for people.

    >>> money(2_100_000), money(5_000_000_000)
    ('0.0021 USD', '5 USD')
    """
    return f"{dollars(cost):f} USD"


# -- who is charged -------------------------------------------------------------------------------------


def day_of(at: float) -> str:
    """The day of a moment, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def end_of(day: str) -> float:
    """When a day is over, wall-clock seconds."""
    return (datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()


def accounts_of(terms: Terms, kin: Sequence[Kin], at: float) -> list[AccountKey]:
    """The accounts of a budget that are charged for a call.

    Args:
        kin: the run that makes it first, then those that have started it.
        at: when it is made.

    Example:
        >>> accounts_of(Terms("all", daily=True), [Kin("r", "research", None)], 0.0)
        [AccountKey(name='all', owner='', day='1970-01-01')]
    """
    covered = [run for run in kin if terms.workflow in (None, run.workflow)]
    if not covered:
        return []
    match terms.owner:
        case "run":
            owners = [run.id for run in covered]
        case "workflow":
            owners = [run.workflow for run in covered]
        case "key":
            owners = [next((run.key for run in kin if run.key is not None), "")]
        case _:
            owners = [""]
    day = day_of(at) if terms.daily else ""
    return [AccountKey(terms.name, owner, day) for owner in dict.fromkeys(owners)]
