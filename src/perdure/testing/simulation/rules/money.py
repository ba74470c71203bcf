"""What must hold of spending, and of budgets."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perdure.core.accounts import Account, AccountKey
from perdure.storage.budgets import decode_account, decode_definition
from perdure.storage.ledger import EntryState
from perdure.testing.simulation.observer import Observer, Rule

MILLI = 1_000_000  #: billionths of a dollar in what instructions count in
EACH, ALL = "each", "all"  #: the budgets: one of each run with all that it starts, one for all runs of a day

_NOBODY_TOLD = (EntryState.OPEN, EntryState.UNKNOWN)


class Spending(Rule):
    """Of steps that spend:

    - Before a body begins that may spend, the ledger has an open entry for it: one for each body, of its own.
    - Whatever a provider bills is in the ledger, as spent or as unknown: nothing is lost, whoever is killed.
    - Nothing is in it twice: of a step no more is spent than was billed, each time what it has cost. A step whose
      outcome is recorded has what it has cost there.
    - Of calls that say truly what they cost at most, what is spent and what is held is never more than an account's
      cap, as it was raised to; nor is what providers have billed, whatever is held for it.
    - An account was charged for what the ledger has as spent, once.
    - Between two moments at which people have made room no more is spent than counts as a spike, within a minute; what
      crashes have left in doubt doesn't count. While a breaker is open nothing is reserved; only people close it.
    - A run goes without a call only where its budget says so.

    That nobody sleeps through a raise is what the simulation looks at by itself: everything has to end.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._runs: dict[str, str] = {}  # by tag
        self._opened: set[int] = set()  # entries that bodies have begun with
        self._billed: Counter[str] = Counter()  # bills, by tag
        self._costs: dict[str, int] = {}
        self._spent: Counter[AccountKey] = Counter()  # as providers have it
        self._accounts: dict[AccountKey, bytes] = {}
        self._lately: dict[AccountKey, list[tuple[float, int]]] = {}  # what was spent, and when
        self._room: dict[AccountKey, float] = {}  # when people have made room last

    def noted(self, process: int, what: str, tag: str, more: Any) -> None:
        if what == "goes without":
            self._observer.counts["calls done without"] += 1
            definitions = self._observer.database.budgets.definitions.values()
            if all(decode_definition(data).terms.on_exhausted != "fail" for data in definitions):
                self._observer.wrong(f"{tag} failed for want of money, and no budget says that it is to")
        elif what == "spends":
            self._begins(tag, more)
        elif what == "is billed":
            self._is_billed(tag, more * MILLI)

    def _begins(self, tag: str, run: str) -> None:
        self._runs[tag] = run
        self._observer.counts["calls that spend"] += 1
        for entry in self._entries(tag):
            if entry.id not in self._opened and entry.state == EntryState.OPEN:
                self._opened.add(entry.id)
                return
        self._observer.wrong(f"{tag} began, and the ledger has no open entry for it")

    def _is_billed(self, tag: str, cost: int) -> None:
        self._billed[tag] += 1
        self._costs[tag] = cost
        database = self._observer.database
        for key in (AccountKey(EACH, _family(self._runs[tag])), *self._daily()):
            self._spent[key] += cost
            cap = self._cap(key)
            if cap is not None and key in database.budgets.accounts and self._spent[key] > cap:
                self._observer.wrong(f"{tag}: providers have billed {self._spent[key]} to {key}, of {cap}")

    def _daily(self) -> list[AccountKey]:
        return [key for key in self._observer.database.budgets.accounts if key.name == ALL]

    def _cap(self, key: AccountKey) -> int | None:
        """What an account allows now, None if it caps no money."""
        budgets = self._observer.database.budgets
        if key.name not in budgets.definitions or key not in budgets.accounts:
            return None
        cost = decode_definition(budgets.definitions[key.name]).terms.cost
        return None if cost is None else cost + decode_account(budgets.accounts[key]).extra

    def _entries(self, tag: str) -> list[Any]:
        usage = self._observer.database.usage
        return [row for rows in usage.values() for row in rows.values() if row.model == tag]

    def carried_out(self, verb: str) -> None:
        accounts = self._observer.database.budgets.accounts
        for key, data in accounts.items():
            was = self._accounts.get(key)
            if was == data:
                continue
            self._accounts[key] = data
            account, cap = decode_account(data), self._cap(key)
            if was is not None:
                self._look_at_breaker(key, decode_account(was), account)
            if cap is not None and account.spent + account.held > cap:
                self._observer.wrong(
                    f"{key} has spent {account.spent} and holds {account.held}, which is more than {cap}"
                )

    def _look_at_breaker(self, key: AccountKey, was: Account, account: Account) -> None:
        made_room = account.version != was.version
        if made_room:
            self._room[key] = self._observer.now
        if was.tripped_at is None:
            self._observer.counts["breakers opened"] += account.tripped_at is not None
        elif account.tripped_at is None and not made_room:
            self._observer.wrong(f"the breaker of {key} was closed, and nobody has closed it")
        elif account.tripped_at is not None and account.held > was.held:
            self._observer.wrong(f"money of {key} was reserved while its breaker was open")
        lately = account.spent - was.spent
        if lately:
            self._lately.setdefault(key, []).append((self._observer.now, lately))
            self._look_for_spike(key)

    def _look_for_spike(self, key: AccountKey) -> None:
        spike = decode_definition(self._observer.database.budgets.definitions[key.name]).terms.spike
        since = max(self._observer.now - 59.0, self._room.get(key, 0.0))
        spent = sum(cost for at, cost in self._lately[key] if at > since)
        if spike is not None and spent > spike and not self._observer.counts["takeovers"]:
            self._observer.wrong(f"{key}: {spent} were spent within a minute, and {spike} count as a spike")

    def look_back(self) -> None:
        for tag in self._runs:
            entries = self._entries(tag)
            spent = [row for row in entries if row.state == EntryState.SPENT]
            open = [row for row in entries if row.state in _NOBODY_TOLD]
            billed = self._billed[tag]
            if len(spent) > billed:
                self._observer.wrong(
                    f"{tag} was billed {billed} times, and is {len(spent)} times in the ledger"
                )
            if len(spent) + len(open) < billed:
                self._observer.wrong(
                    f"{tag} was billed {billed} times; in the ledger are {len(spent)} and {len(open)} unknown"
                )
            if any(row.cost != self._costs[tag] for row in spent):
                self._observer.wrong(f"{tag} costs {self._costs[tag]}: {[row.cost for row in spent]}")
            if tag in self._observer.recorded and not spent:
                self._observer.wrong(f"{tag} was recorded, and what it has cost isn't in the ledger")
        self._check_accounts()

    def _check_accounts(self) -> None:
        database = self._observer.database
        spent: Counter[str] = Counter()
        for run, rows in database.usage.items():
            for row in rows.values():
                if row.state == EntryState.SPENT:
                    spent[_family(database.runs[run].id)] += row.cost or 0
        for key, data in database.budgets.accounts.items():
            charged = decode_account(data).spent
            if key.name == ALL and charged != sum(spent.values()):
                self._observer.wrong(f"{key} was charged {charged}, and the ledger has {sum(spent.values())}")
            if key.name == EACH and key.owner == _family(key.owner) and charged != spent[key.owner]:
                self._observer.wrong(f"{key} was charged {charged}, and the ledger has {spent[key.owner]}")


def _family(id: str) -> str:
    """The run that has started a run, or whose start has, and so on."""
    return id.partition("/")[0].partition("~")[0]
