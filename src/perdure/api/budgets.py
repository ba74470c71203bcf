"""Budgets from outside (`engine.budgets`): how they stand, raising them, closing their breakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from perdure.api.connection import Connection
from perdure.core.accounts import AccountKey, Definition, day_of
from perdure.core.usage import dollars
from perdure.errors import UsageError
from perdure.runtime.budgets import checked_money, checked_tokens, described
from perdure.storage.budgets import Change, Forget, Overrule, Raise, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountInfo:
    """How one account of a budget stands. Amounts in US dollars.

    Attributes:
        owner: the run, workflow or key whose account it is; "" if there is one for all, or for runs without a key.
        day: the day in UTC; "" if days aren't told apart.
        usd, tokens: the caps, with what they were raised by; None = there is none.
        spent, spent_tokens: by calls whose outcome is known.
        reserved, reserved_tokens: for calls that are being made.
        unknown, unknown_tokens: reserved for calls whose outcome nobody will know. It counts as spent.
        calls: those that are settled.
        unpriced_calls: those of them whose price nobody knows; what they cost isn't in `spent`.
        tripped_since: since when the breaker is open; None if it isn't.
        waiting: how many steps wait for room.
    """

    owner: str
    day: str
    usd: Decimal | None
    tokens: int | None
    spent: Decimal
    spent_tokens: int
    reserved: Decimal
    reserved_tokens: int
    unknown: Decimal
    unknown_tokens: int
    calls: int
    unpriced_calls: int
    tripped_since: datetime | None
    waiting: int

    @property
    def left(self) -> Decimal | None:
        """What may still be reserved, in US dollars; None without a cap."""
        if self.usd is None:
            return None
        return max(Decimal(0), self.usd - self.spent - self.reserved - self.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetInfo:
    """A budget, from `engine.budgets`.

    Attributes:
        terms: what it says, in words.
        per: what has an account: "run", "workflow", "key"; "" if there is one for all.
        daily: each day has accounts of its own.
        overridden: a person has set other caps than the code.
        accounts: of all that have asked for money, in the order of owners and days.
    """

    name: str
    terms: str
    per: str
    daily: bool
    overridden: bool
    accounts: Sequence[AccountInfo]


class Budgets:
    """The budgets of a database, as `engine.budgets`. What is done here holds for all workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[BudgetInfo]:
        """All budgets, by name."""
        found = await self._connection.store.budgets.definitions()
        return [await self._info(definition) for definition in found]

    async def get(self, name: str) -> BudgetInfo | None:
        """One budget; None if no code has declared it."""
        found = await self._connection.store.budgets.definitions()
        wanted = [definition for definition in found if definition.declared.name == name]
        return await self._info(wanted[0]) if wanted else None

    async def raise_by(
        self,
        name: str,
        *,
        usd: Decimal | float | str = 0,
        tokens: int = 0,
        owner: str | None = None,
    ) -> None:
        """Raise the cap of one account, of today's if each day has one. What waits for it goes on.

        Args:
            usd, tokens: by so much.
            owner: the run, workflow or key whose account it is; may be left out if there is only one.

        Raises:
            UsageError: there is no such budget, or it isn't clear whose account is meant.
            ConfigurationError: an amount can't be used.

        Example:
            >>> await engine.budgets.raise_by("app.research", usd=2, owner="r-1")  # doctest: +SKIP
        """
        cost = checked_money(usd, "usd")
        change = Raise(await self._key(name, owner), cost, checked_tokens(tokens))
        await self._change(name, change)

    async def close_breaker(self, name: str, *, owner: str | None = None) -> None:
        """Close the breaker of one account, which a spike had opened. What waits for it goes on.

        Raises:
            UsageError: there is no such budget, or it isn't clear whose account is meant.
        """
        await self._change(name, Raise(await self._key(name, owner)))

    async def set(
        self, name: str, *, usd: Decimal | float | str | None = None, tokens: int | None = None
    ) -> None:
        """Give all accounts of a budget other caps than its code does, until that says something else, or `reset`.

        Args:
            usd, tokens: None = no cap.

        Raises:
            UsageError: there is no such budget.
            ConfigurationError: an amount can't be used.
        """
        cost = None if usd is None else checked_money(usd, "usd")
        await self._change(name, Overrule(name, cost, None if tokens is None else checked_tokens(tokens)))

    async def reset(self, name: str) -> None:
        """Let the caps hold again that its code gives to a budget. Raises UsageError if there is no such budget."""
        await self._change(name, Overrule(name, back=True))

    async def remove(self, name: str) -> None:
        """Forget a budget that no code declares any more. Raises UsageError if there is no such budget."""
        await self._change(name, Forget(name))

    async def _change(self, name: str, change: Change) -> None:
        connection = self._connection
        if not await connection.store.budgets.change(change, now=connection.clock()):
            raise UsageError(_unknown(name))
        connection.nudge()

    async def _key(self, name: str, owner: str | None) -> AccountKey:
        info = await self.get(name)
        if info is None:
            raise UsageError(_unknown(name))
        day = day_of(self._connection.clock()) if info.daily else ""
        if owner is None and info.per:
            owners = sorted({account.owner for account in info.accounts if account.day == day})
            if len(owners) != 1:
                known = ", ".join(map(repr, owners[:10])) or "none has asked for money yet"
                msg = f"the budget {name!r} has an account for each {info.per}: say whose to change ({known})"
                raise UsageError(msg)
            owner = owners[0]
        return AccountKey(name, owner or "", day)

    async def _info(self, definition: Definition) -> BudgetInfo:
        terms = definition.terms
        standings = await self._connection.store.budgets.standings(terms.name)
        return BudgetInfo(
            name=terms.name,
            terms=described(terms),
            per=terms.owner,
            daily=terms.daily,
            overridden=definition.overruled,
            accounts=[_account(definition, standing) for standing in standings],
        )


def _account(definition: Definition, standing: Standing) -> AccountInfo:
    terms, account, live, lost = definition.terms, standing.account, standing.live, standing.lost
    tripped = account.tripped_at
    return AccountInfo(
        owner=standing.key.owner,
        day=standing.key.day,
        usd=None if terms.cost is None else dollars(terms.cost + account.extra),
        tokens=None if terms.tokens is None else terms.tokens + account.extra_tokens,
        spent=dollars(account.spent),
        spent_tokens=account.spent_tokens,
        reserved=dollars(live.cost),
        reserved_tokens=live.tokens,
        unknown=dollars(lost.cost),
        unknown_tokens=lost.tokens,
        calls=account.calls,
        unpriced_calls=account.unpriced,
        tripped_since=None if tripped is None else datetime.fromtimestamp(tripped, UTC),
        waiting=standing.waiting,
    )


def _unknown(name: str) -> str:
    return f"there is no budget {name!r}: `perdure budget` lists those that code has declared"
