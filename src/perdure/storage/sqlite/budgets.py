"""The budgets of a SQLite store. See storage/budgets.py for what is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from perdure.core.accounts import Account, AccountKey, Definition, Kin, Terms
from perdure.core.budgets import Amount
from perdure.storage import budgeting as wish
from perdure.storage.answering import carried_out
from perdure.storage.budgets import (
    ALL_WORKFLOWS,
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
    workflow_in,
)
from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.lifecycle import deliver
from perdure.storage.sqlite.rows import as_json

R = TypeVar("R")


class SqliteBudgets:
    """See BudgetStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def define(self, terms: Sequence[Terms], *, now: float) -> list[Terms]:
        replaced: list[Terms] | None = await self._write(_define, terms, now)
        return replaced or []

    async def reserve(self, asks: Sequence[Ask], *, now: float) -> list[Answer] | None:
        answers: list[Answer] | None = await self._write(_reserve, asks, now)
        return answers

    async def change(self, change: Change, *, now: float) -> bool:
        return bool(await self._write(_change, change, now))

    async def definitions(self) -> list[Definition]:
        found: list[Definition] = await self._read(_definitions, wish.AllDefinitions())
        return found

    async def standings(self, name: str) -> list[Standing]:
        found: list[Standing] = await self._read(_standings, name)
        return found


def _define(db: Database, terms: Sequence[Terms], now: float) -> list[Terms] | None:
    untold: list[Any] = db.rows("untold_budgets")
    db.many("tell_budget", [(workflow_in(data), name, data) for name, data in untold])
    return carry_out(db, wish.defining(terms, now))


def _reserve(db: Database, asks: Sequence[Ask], now: float) -> list[Answer] | None:
    return carry_out(db, wish.reserving(asks, now))


def _change(db: Database, change: Change, now: float) -> bool | None:
    return carry_out(db, wish.changing(change, now))


def _standings(db: Database, name: str) -> list[Standing]:
    found: list[Standing] = []
    for owner, day, data in db.rows("accounts_of", {"name": name}):
        key = AccountKey(name, owner, day)
        held = _holds_in(db, wish.HoldsIn(key))
        waiting: int = db.value("waiting_for", _named(key))
        found.append(wish.standing(key, decode_account(data), held, waiting))
    return sorted(found, key=lambda standing: standing.key)


def carry_out(db: Database, algorithm: Generator[wish.Wish, Any, R]) -> R:
    """Answer what it wishes, to its end."""
    return carried_out(algorithm, lambda wanted: _WAYS[type(wanted)](db, wanted))


def settle(db: Database, charges: Sequence[Charge], now: float) -> None:
    """What was spent is charged."""
    carry_out(db, wish.settling(charges, (), now))


def await_money(db: Database, append: Append, effect: AwaitMoney) -> None:
    carry_out(db, wish.settling((), [(append.run, effect)], append.now))


# -- wishes ---------------------------------------------------------------------------------------------


def _named(key: AccountKey) -> dict[str, Value]:
    return dict(key._asdict())


def _hold(row: Row) -> Hold:
    run, id, name, owner, day, cost, tokens, declared, epoch, errand = row
    return Hold(
        run, id, AccountKey(name, owner, day), Amount(cost, tokens, declared=bool(declared)), epoch, errand
    )


def _definitions(db: Database, wanted: wish.AllDefinitions) -> list[Definition]:
    return [decode_definition(data) for (data,) in db.rows("budgets")]


def _definitions_for(db: Database, wanted: wish.DefinitionsFor) -> list[Definition] | None:
    found = db.rows("budgets_for", {"workflows": as_json([ALL_WORKFLOWS, *wanted.workflows])})
    if not found and not db.rows("any_budget"):
        return None
    return [decode_definition(data) for _, data in found]


def _keep_definition(db: Database, wanted: wish.KeepDefinition) -> None:
    if wanted.definition is not None:
        data = encode_definition(wanted.definition)
        db.run("keep_budget", {"name": wanted.name, "data": data, "workflow": workflow_in(data)})
        return
    for query in ("drop_budget", "drop_accounts", "drop_holds_of", "drop_waits_of"):
        db.run(query, {"name": wanted.name})


def _kin_of(db: Database, wanted: wish.KinOf) -> list[Kin]:
    found: list[Kin] = []
    run: int | None = wanted.run
    while run is not None and (rows := db.rows("kin_of_run", {"run": run})):
        id, workflow, key, run = rows[0]
        found.append(Kin(id, workflow, key))
    return found


def _lock(db: Database, wanted: wish.LockAccounts) -> dict[AccountKey, Account]:
    found: dict[AccountKey, Account] = {}
    for key in wanted.keys:
        data: bytes | None = db.value("account", _named(key))
        found[key] = Account() if data is None else decode_account(data)
    return found


def _keys_of(db: Database, wanted: wish.KeysOf) -> list[AccountKey]:
    return [
        AccountKey(wanted.name, owner, day) for owner, day, _ in db.rows("accounts_of", {"name": wanted.name})
    ]


def _keep_accounts(db: Database, wanted: wish.KeepAccounts) -> None:
    for key, account in wanted.accounts.items():
        db.run("keep_account", {**_named(key), "data": encode_account(account)})


def _holds_for(db: Database, wanted: wish.HoldsFor) -> list[Hold]:
    return [_hold(row) for run, id in wanted.calls for row in db.rows("holds_for", {"run": run, "id": id})]


def _holds_in(db: Database, wanted: wish.HoldsIn) -> list[tuple[Hold, HoldState]]:
    return [(_hold(tuple(row)), HoldState(state)) for *row, state in db.rows("holds_in", _named(wanted.key))]


def _place(hold: Hold) -> dict[str, Value]:
    return {"run": hold.run, "id": hold.id, **_named(hold.key)}


def _put_holds(db: Database, wanted: wish.PutHolds) -> None:
    for each in wanted.holds:
        amount: dict[str, Value] = {"cost": each.amount.cost, "tokens": each.amount.tokens}
        rest: dict[str, Value] = {"epoch": each.epoch, "errand": each.errand}
        db.run("put_hold", {**_place(each), **amount, "declared": int(each.amount.declared), **rest})


def _drop_holds(db: Database, wanted: wish.DropHolds) -> None:
    for each in wanted.holds:
        db.run("drop_hold", _place(each))


def _waits_for(db: Database, wanted: wish.WaitsFor) -> list[tuple[int, str, bytes]]:
    return [(run, step, mail) for key in wanted.keys for run, step, mail in db.rows("waits_for", _named(key))]


def _lock_runs(db: Database, wanted: wish.LockRuns) -> None:
    """Nobody else writes."""


def _put_wait(db: Database, wanted: wish.PutWait) -> None:
    wait: dict[str, Value] = {"run": wanted.run, "step": wanted.step, "mail": wanted.mail}
    db.run("put_money_wait", {**wait, **_named(wanted.key)})


def _drop_waits(db: Database, wanted: wish.DropWaits) -> None:
    for run, step in wanted.waits:
        db.run("drop_money_wait", {"run": run, "step": step})


def _send_mail(db: Database, wanted: wish.SendMail) -> None:
    deliver(db, wanted.run, wanted.mail, wanted.now)


_WAYS: dict[type[Any], Callable[[Database, Any], Any]] = {
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
