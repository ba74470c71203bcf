"""The budgets of a memory store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from perdure.core.accounts import Account, AccountKey, Definition, Kin, Terms
from perdure.core.budgets import Amount
from perdure.storage import budgeting as wish
from perdure.storage.answering import carried_out
from perdure.storage.budgets import (
    Answer,
    Ask,
    AwaitMoney,
    Change,
    Charge,
    Hold,
    HoldState,
    Standing,
    decode_account,
    decode_definition,
    encode_account,
    encode_definition,
)
from perdure.storage.records import Append

#: The Db, which knows the rows of this module.
Db: TypeAlias = Any

R = TypeVar("R")


class Budgets:
    """What is kept. Accounts and definitions are bytes, so that nobody changes them in passing."""

    def __init__(self) -> None:
        self.definitions: dict[str, bytes] = {}
        self.accounts: dict[AccountKey, bytes] = {}
        self.holds: dict[tuple[int, int, AccountKey], Hold] = {}
        self.waits: dict[tuple[int, str], tuple[AccountKey, bytes]] = {}


class MemoryBudgets:
    """See BudgetStore.

    Args:
        database: the database, if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Db], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def define(self, terms: Sequence[Terms], *, now: float) -> list[Terms]:
        replaced = carry_out(self._database(), wish.defining(terms, now))
        if replaced:
            self._changed()
        return replaced or []

    async def reserve(self, asks: Sequence[Ask], *, now: float) -> list[Answer] | None:
        return carry_out(self._database(), wish.reserving(asks, now))

    async def change(self, change: Change, *, now: float) -> bool:
        done = carry_out(self._database(), wish.changing(change, now))
        self._changed()
        return bool(done)

    async def definitions(self) -> list[Definition]:
        return _definitions(self._database(), wish.AllDefinitions())

    async def standings(self, name: str) -> list[Standing]:
        db = self._database()
        found: list[Standing] = []
        for key in sorted(_keys_of(db, wish.KeysOf(name))):
            held = _holds_in(db, wish.HoldsIn(key))
            waits = [
                run for (run, _), (where, _) in db.budgets.waits.items() if where == key and _live(db, run)
            ]
            account = decode_account(db.budgets.accounts[key])
            found.append(wish.standing(key, account, held, len(waits)))
        return found


def carry_out(db: Db, algorithm: Generator[wish.Wish, Any, R]) -> R:
    """Answer what it wishes, to its end."""
    return carried_out(algorithm, lambda wanted: _WAYS[type(wanted)](db, wanted))


def settle(db: Db, charges: Sequence[Charge], now: float) -> None:
    """What was spent is charged."""
    carry_out(db, wish.settling(charges, (), now))


def await_money(db: Db, append: Append, effect: AwaitMoney) -> None:
    carry_out(db, wish.settling((), [(append.run, effect)], append.now))


# -- wishes ---------------------------------------------------------------------------------------------


def _definitions(db: Db, wanted: wish.AllDefinitions) -> list[Definition]:
    return [decode_definition(db.budgets.definitions[name]) for name in sorted(db.budgets.definitions)]


def _definitions_for(db: Db, wanted: wish.DefinitionsFor) -> list[Definition] | None:
    known = _definitions(db, wish.AllDefinitions())
    covering = (None, *wanted.workflows)
    return [each for each in known if each.declared.workflow in covering] if known else None


def _keep_definition(db: Db, wanted: wish.KeepDefinition) -> None:
    kept: Budgets = db.budgets
    if wanted.definition is not None:
        kept.definitions[wanted.name] = encode_definition(wanted.definition)
        return
    del kept.definitions[wanted.name]
    kept.accounts = {key: data for key, data in kept.accounts.items() if key.name != wanted.name}
    kept.holds = {place: each for place, each in kept.holds.items() if each.key.name != wanted.name}
    kept.waits = {place: wait for place, wait in kept.waits.items() if wait[0].name != wanted.name}


def _kin_of(db: Db, wanted: wish.KinOf) -> list[Kin]:
    found: list[Kin] = []
    run: int | None = wanted.run
    while run is not None and run in db.runs:
        row = db.runs[run]
        found.append(Kin(row.id, row.workflow, row.key))
        run = row.parent
    return found


def _lock(db: Db, wanted: wish.LockAccounts) -> dict[AccountKey, Account]:
    accounts = db.budgets.accounts
    for key in wanted.keys:
        accounts.setdefault(key, encode_account(Account()))
    return {key: decode_account(accounts[key]) for key in wanted.keys}


def _keys_of(db: Db, wanted: wish.KeysOf) -> list[AccountKey]:
    return [key for key in db.budgets.accounts if key.name == wanted.name]


def _keep_accounts(db: Db, wanted: wish.KeepAccounts) -> None:
    for key, account in wanted.accounts.items():
        db.budgets.accounts[key] = encode_account(account)


def _holds_for(db: Db, wanted: wish.HoldsFor) -> list[Hold]:
    calls = set(wanted.calls)
    return [each for each in db.budgets.holds.values() if (each.run, each.id) in calls]


def _holds_in(db: Db, wanted: wish.HoldsIn) -> list[tuple[Hold, HoldState]]:
    return [(each, _state(db, each)) for each in db.budgets.holds.values() if each.key == wanted.key]


def _state(db: Db, hold: Hold) -> HoldState:
    entry = db.usage.get(hold.run, {}).get(hold.id)
    if entry is not None and entry.state == "unknown":
        return HoldState.LOST
    driven = db.find_id(hold.errand) if hold.errand else db.runs.get(hold.run)
    if driven is not None and driven.owner is not None and driven.epoch == hold.epoch:
        return HoldState.LIVE
    return HoldState.VOID if entry is None else HoldState.LOST


def _live(db: Db, run: int) -> bool:
    return run in db.runs and not db.runs[run].ended


def _put_holds(db: Db, wanted: wish.PutHolds) -> None:
    for each in wanted.holds:
        db.budgets.holds[each.run, each.id, each.key] = each._replace(amount=Amount(*each.amount))


def _drop_holds(db: Db, wanted: wish.DropHolds) -> None:
    for each in wanted.holds:
        db.budgets.holds.pop((each.run, each.id, each.key), None)


def _waits_for(db: Db, wanted: wish.WaitsFor) -> list[tuple[int, str, bytes]]:
    keys = set(wanted.keys)
    return [(run, step, mail) for (run, step), (key, mail) in db.budgets.waits.items() if key in keys]


def _lock_runs(db: Db, wanted: wish.LockRuns) -> None:
    """Nobody else is at it."""


def _put_wait(db: Db, wanted: wish.PutWait) -> None:
    db.budgets.waits[wanted.run, wanted.step] = wanted.key, wanted.mail


def _drop_waits(db: Db, wanted: wish.DropWaits) -> None:
    for place in wanted.waits:
        db.budgets.waits.pop(place, None)


def _send_mail(db: Db, wanted: wish.SendMail) -> None:
    if wanted.run in db.runs:
        db.deliver(db.runs[wanted.run], wanted.mail, wanted.now)


_WAYS: dict[type[Any], Callable[[Db, Any], Any]] = {
    wish.AllDefinitions: _definitions,
    wish.DefinitionsFor: _definitions_for,
    wish.KeepDefinition: _keep_definition,
    wish.KinOf: _kin_of,
    wish.LockAccounts: _lock,
    wish.KeysOf: _keys_of,
    wish.KeepAccounts: _keep_accounts,
    wish.HoldsFor: _holds_for,
    wish.HoldsIn: _holds_in,
    wish.PutHolds: _put_holds,
    wish.DropHolds: _drop_holds,
    wish.WaitsFor: _waits_for,
    wish.LockRuns: _lock_runs,
    wish.PutWait: _put_wait,
    wish.DropWaits: _drop_waits,
    wish.SendMail: _send_mail,
}
