"""Budgets as programs declare them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias, get_args

from perdure.core import bounds
from perdure.core.accounts import Terms, money
from perdure.core.usage import nanos
from perdure.errors import ConfigurationError, DuplicateNameError
from perdure.storage.protocol import Store

logger = logging.getLogger("perdure.budgets")

#: Longest name of a budget, in characters.
NAME_MAX = bounds.NAME_MAX

#: What has a budget of its own.
Per: TypeAlias = Literal["run", "workflow", "key", "day"]

#: What happens to a call for which there is no money.
OnExhausted: TypeAlias = Literal["pause", "ask", "fail"]


class Budget:
    """How much may be spent: what a call may cost at most is reserved before it, and settled with its result.

    Given to a workflow, as in `@workflow(budget=Budget(usd=5))`, it covers that workflow's runs and all that they
    start; given to an engine, as in `Engine(budgets=[Budget(usd=100, per="day")])`, every run in the database. Budgets
    are stored when an engine opens, and hold for all workers; the newest declaration counts.

    Args:
        usd: the cap in US dollars.
        tokens: the cap on tokens, of prompts and answers together.
        per: what has a budget of its own: each "run" (with all that it starts), each "workflow", each "key" (see
            `Engine.start`), or each "day" in UTC, with which one of the others may be combined: ("key", "day").
        on_exhausted: what happens to a call for which there is no money. "pause": its run is blocked until the budget
            is raised, or the next day has come. "ask": until a person decides, also about this one call. "fail":
            BudgetExceeded is raised in the workflow.
        spike: US dollars a minute. If more is spent, a breaker opens, and no call is made until a person closes it.
        name: what people know it by; by default that of the workflow, or "all".

    Raises:
        ConfigurationError: it caps nothing, or an amount or a word can't be used.

    Example:
        >>> Budget(usd=5, on_exhausted="ask")
        Budget(usd=5, per='run', on_exhausted='ask')
    """

    def __init__(
        self,
        usd: Decimal | float | str | None = None,
        *,
        tokens: int | None = None,
        per: Per | Sequence[Per] = "run",
        on_exhausted: OnExhausted = "pause",
        spike: Decimal | float | str | None = None,
        name: str | None = None,
    ) -> None:
        if usd is None and tokens is None and spike is None:
            raise ConfigurationError(
                "a Budget needs a cap: usd=, tokens=, or spike= for a breaker, as in Budget(usd=5)"
            )
        if on_exhausted not in get_args(OnExhausted):
            msg = f"Budget(on_exhausted={on_exhausted!r}): give one of {', '.join(get_args(OnExhausted))}"
            raise ConfigurationError(msg)
        self.name = None if name is None else checked_name(name)
        self._told = ", ".join(
            f"{word}={value!r}"
            for word, value in {
                "usd": usd,
                "tokens": tokens,
                "per": per,
                "on_exhausted": on_exhausted,
                "spike": spike,
                "name": name,
            }.items()
            if value is not None
        )
        owner, daily = _per(per)
        self._terms = Terms(
            name="",
            cost=None if usd is None else checked_money(usd, "usd"),
            tokens=None if tokens is None else checked_tokens(tokens),
            owner=owner,
            daily=daily,
            on_exhausted=on_exhausted,
            spike=None if spike is None else checked_money(spike, "spike"),
        )

    def terms(self, name: str, workflow: str | None) -> Terms:
        """What is stored of it.

        Args:
            name: if it has none of its own.
            workflow: the one that it was given to.
        """
        terms = self._terms
        return Terms(
            self.name or name,
            workflow,
            terms.cost,
            terms.tokens,
            terms.owner,
            terms.daily,
            terms.on_exhausted,
            terms.spike,
        )

    @property
    def word(self) -> str:
        """What tells it from others that were given to the same."""
        return "/".join(filter(None, [self._terms.owner, "day" if self._terms.daily else ""]))

    def __repr__(self) -> str:
        return f"Budget({self._told})"


#: What `budget=` of a workflow, and `budgets=` of an engine, may be.
Budgets: TypeAlias = Budget | Sequence[Budget]


def terms_of(given: Budgets | None, *, name: str, workflow: str | None) -> tuple[Terms, ...]:
    """What was given to a workflow, or to an engine.

    Args:
        name: that of the only one, and what those of several begin with, unless they have names of their own.

    Raises:
        ConfigurationError: it isn't a budget.
        DuplicateNameError: two go by one name.
    """
    if given is None:
        return ()
    budgets: list[Any] = [given] if isinstance(given, Budget) else list(given)
    for budget in budgets:
        if not isinstance(budget, Budget):
            msg = f"budget={budget!r}: give a Budget, as in Budget(usd=5), or a list of these"
            raise ConfigurationError(msg)
    alone = len(budgets) == 1
    return checked_terms(
        budget.terms(name if alone else f"{name}/{budget.word}", workflow) for budget in budgets
    )


def checked_terms(terms: Iterable[Terms]) -> tuple[Terms, ...]:
    """Raises DuplicateNameError if two say different things under one name."""
    found: dict[str, Terms] = {}
    for each in terms:
        if found.setdefault(each.name, each) != each:
            msg = f'two budgets go by {each.name!r}: give one of them another name, as in Budget(..., name="...")'
            raise DuplicateNameError(msg)
    return tuple(found.values())


async def define_budgets(store: Store, declared: Sequence[Terms], clock: Callable[[], float]) -> None:
    """Store what this process has declared."""
    if not declared:
        return
    terms = {each.name: each for each in checked_terms(declared)}
    for before in await store.budgets.define(list(terms.values()), now=clock()):
        logger.warning(
            "the budget %r is other from now on: %s; before: %s",
            before.name,
            described(terms[before.name]),
            described(before),
        )


def described(terms: Terms) -> str:
    """A budget in a line.

    Example:
        >>> described(Terms("b", cost=5_000_000_000, owner="key", daily=True))
        '5 USD per key and day, then pause'
    """
    caps = [
        *([] if terms.cost is None else [money(terms.cost)]),
        *([] if terms.tokens is None else [f"{terms.tokens} tokens"]),
        *([] if terms.spike is None else [f"a breaker at {money(terms.spike)} a minute"]),
    ]
    per = " and ".join(filter(None, [terms.owner, "day" if terms.daily else ""]))
    told = f"{' and '.join(caps)} per {per}"
    if terms.workflow is not None:
        told += f" of {terms.workflow}" if terms.owner != "workflow" else ""
    return f"{told}, then {terms.on_exhausted}"


# -- what may be said -----------------------------------------------------------------------------------


def checked_name(name: object) -> str:
    """Raises ConfigurationError for what can't be a budget's name."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = f"{name!r} can't name a budget: a name has 1 to {NAME_MAX} printable characters"
        raise ConfigurationError(msg)
    return name


def checked_money(amount: Decimal | float | str, what: str) -> int:
    """An amount in billionths of a dollar. Raises ConfigurationError for what is none."""
    try:
        if not isinstance(amount, bool) and (found := nanos(amount)) >= 0 and found < 1 << 60:
            return found
    except (InvalidOperation, ValueError, OverflowError):
        pass
    msg = f"{what}={amount!r}: give an amount of US dollars from 0, such as 2.5"
    raise ConfigurationError(msg)


def checked_tokens(tokens: int) -> int:
    """Raises ConfigurationError for what is no number of tokens."""
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens < 1 << 60:
        msg = f"tokens={tokens!r}: give a whole number from 0"
        raise ConfigurationError(msg)
    return tokens


def _per(per: Per | Sequence[Per]) -> tuple[str, bool]:
    """Who has an account, and whether each day has its own."""
    words = {per} if isinstance(per, str) else set(per)
    owners = words - {"day"}
    if not words or not words <= set(get_args(Per)) or len(owners) > 1:
        msg = (
            f'Budget(per={per!r}): give "run", "workflow", "key" or "day"; or one of the first three and "day", as in '
            'per=("key", "day")'
        )
        raise ConfigurationError(msg)
    return (owners.pop() if owners else ""), "day" in words
