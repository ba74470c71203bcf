"""What one namespace has spent, and how it stands in the budgets.

Budgets and rate limits are declared by code, and hold for the runs of all namespaces together: they protect a bill, or
somebody's interface. A namespace sees its own accounts in them, those of its runs and keys, and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from perdure.core.accounts import AccountKey, Definition, Terms
from perdure.core.namespaces import short
from perdure.core.permits import Answers, Batch, LimitState
from perdure.storage.budgets import Answer, Ask, BudgetStore, Change, Standing
from perdure.storage.ledger import Book, Entry, LedgerStore, Line, Query, Total
from perdure.storage.limits import LimitStore
from perdure.storage.scoping.mine import Mine, of_workers


class ScopedLedger:
    """See LedgerStore."""

    def __init__(self, inner: LedgerStore, prefix: str, mine: Mine) -> None:
        self._inner = inner
        self._prefix = prefix
        self._mine = mine

    async def book(self, run: int, book: Book) -> None:
        of_workers()

    async def report(self, query: Query) -> list[Line]:
        inside = msgspec.structs.replace(
            query,
            run=None if query.run is None else self._prefix + query.run,
            key=None if query.key is None else self._prefix + query.key,
            within=self._prefix,
        )
        lines = await self._inner.report(inside)
        return [
            msgspec.structs.replace(line, name=None if line.name is None else short(line.name))
            for line in lines
        ]

    async def totals(self) -> list[Total]:
        of_workers()

    async def receive(self, origin: str, totals: Sequence[Total]) -> None:
        of_workers()

    async def entries(self, run: int) -> list[Entry]:
        if not await self._mine.only([run]):
            return []
        return [_outside(entry) for entry in await self._inner.entries(run)]


def _outside(entry: Entry) -> Entry:
    used = entry.used
    if used.key is not None:
        used = msgspec.structs.replace(used, key=short(used.key))
    return msgspec.structs.replace(entry, used=used, errand=short(entry.errand))


class ScopedBudgets:
    """See BudgetStore."""

    def __init__(self, inner: BudgetStore, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def define(self, terms: Sequence[Terms], *, now: float) -> list[Terms]:
        of_workers()

    async def reserve(self, asks: Sequence[Ask], *, now: float) -> list[Answer] | None:
        of_workers()

    async def change(self, change: Change, *, now: float) -> bool:
        return False  # no budget is its own

    async def definitions(self) -> list[Definition]:
        return await self._inner.definitions()

    async def standings(self, name: str) -> list[Standing]:
        return [
            msgspec.structs.replace(
                standing, key=AccountKey(standing.key.name, short(standing.key.owner), standing.key.day)
            )
            for standing in await self._inner.standings(name)
            if standing.key.owner.startswith(self._prefix)
        ]


class ScopedLimits:
    """See LimitStore."""

    def __init__(self, inner: LimitStore) -> None:
        self._inner = inner

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        of_workers()

    async def all(self) -> Mapping[str, LimitState]:
        return {}  # how full they are is made by everybody's runs
