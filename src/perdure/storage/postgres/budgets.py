"""The budgets of a PostgreSQL store. See storage/budgets.py for what is promised.

Accounts are rows on which many runs meet. So they are locked as the last thing that a transaction locks, in the order
of their keys; a batch of appends charges for all of its runs together, at its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from perdure.core.accounts import Account, AccountKey, Definition, Kin, Terms
from perdure.core.budgets import Amount
from perdure.storage import budgeting as wish
from perdure.storage.answering import carried_out_by
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
from perdure.storage.postgres.database import Database, Row
from perdure.storage.postgres.lifecycle import deliver
from perdure.storage.postgres.ways import Ways

R = TypeVar("R")

#: What a batch of appends brings for accounts: charges, and by run who waits from now on.
Due: TypeAlias = Charge | tuple[int, AwaitMoney]


class PostgresBudgets:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def define(self, terms: Sequence[Terms], *, now: float) -> list[Terms]:
        replaced: list[Terms] | None = None
        while replaced is None:
            replaced = await self._ways.apart(_define, terms, now)
        if replaced:
            self._ways.changed()
        return replaced

    async def reserve(self, asks: Sequence[Ask], *, now: float) -> list[Answer] | None:
        return await self._ways.beside(_reserve, asks, now, marked=False)

    async def change(self, change: Change, *, now: float) -> bool:
        done: bool | None = None
        while done is None:
            done = await self._ways.apart(_change, change, now)
        self._ways.changed()
        return done

    async def definitions(self) -> list[Definition]:
        return await self._ways.read(_definitions, wish.AllDefinitions())

    async def standings(self, name: str) -> list[Standing]:
        return await self._ways.read(_standings, name)


async def _define(db: Database, terms: Sequence[Terms], now: float) -> list[Terms] | None:
    untold = await db.rows("untold_budgets")
    await db.many("tell_budget", [(workflow_in(data), name, data) for name, data in untold])
    return await carry_out(db, wish.defining(terms, now))


async def _reserve(db: Database, asks: Sequence[Ask], now: float) -> list[Answer] | None:
    return await carry_out(db, wish.reserving(asks, now))


async def _change(db: Database, change: Change, now: float) -> bool | None:
    return await carry_out(db, wish.changing(change, now))


async def _standings(db: Database, name: str) -> list[Standing]:
    found: list[Standing] = []
    for owner, day, data in await db.rows("accounts_of", name=name):
        key = AccountKey(name, owner, day)
        held = await _holds_in(db, wish.HoldsIn(key))
        waiting = await db.value("waiting_for", **key._asdict())
        found.append(wish.standing(key, decode_account(data), held, waiting))
    return sorted(found, key=lambda standing: standing.key)


async def carry_out(db: Database, algorithm: Generator[wish.Wish, Any, R]) -> R:
    """Answer what it wishes, to its end."""
    return await carried_out_by(algorithm, lambda wanted: _WAYS[type(wanted)](db, wanted))


async def settle(db: Database, due: Sequence[Due], now: float) -> None:
    """What was spent is charged, and who waits is written down."""
    charges = [each for each in due if isinstance(each, Charge)]
    waits = [each for each in due if not isinstance(each, Charge)]
    await carry_out(db, wish.settling(charges, waits, now))


# -- wishes ---------------------------------------------------------------------------------------------


def _columns(keys: Sequence[AccountKey]) -> dict[str, list[str]]:
    return {
        "names": [key.name for key in keys],
        "owners": [key.owner for key in keys],
        "days": [key.day for key in keys],
    }


def _hold(row: Row) -> Hold:
    run, id, name, owner, day, cost, tokens, declared, epoch, errand = row
    return Hold(run, id, AccountKey(name, owner, day), Amount(cost, tokens, declared), epoch, errand)


async def _definitions(db: Database, wanted: wish.AllDefinitions) -> list[Definition]:
    return [decode_definition(data) for (data,) in await db.rows("budgets")]


async def _definitions_for(db: Database, wanted: wish.DefinitionsFor) -> list[Definition] | None:
    found = await db.rows("budgets_for", workflows=[ALL_WORKFLOWS, *wanted.workflows])
    if not found and not await db.rows("any_budget"):
        return None
    return [decode_definition(data) for _, data in found]


async def _keep_definition(db: Database, wanted: wish.KeepDefinition) -> None:
    if wanted.definition is not None:
        data = encode_definition(wanted.definition)
        await db.run("keep_budget", name=wanted.name, data=data, workflow=workflow_in(data))
        return
    for query in ("drop_budget", "drop_accounts", "drop_holds_of", "drop_waits_of"):
        await db.run(query, name=wanted.name)


async def _kin_of(db: Database, wanted: wish.KinOf) -> list[Kin]:
    found: list[Kin] = []
    run: int | None = wanted.run
    while run is not None and (rows := await db.rows("kin_of_run", run=run)):
        id, workflow, key, run = rows[0]
        found.append(Kin(id, workflow, key))
    return found


async def _lock(db: Database, wanted: wish.LockAccounts) -> dict[AccountKey, Account]:
    rows = await db.rows("lock_accounts", **_columns(wanted.keys))
    if len(rows) < len(wanted.keys):  # new ones: only a row that is there can be locked
        await db.run("make_accounts", **_columns(wanted.keys))
        rows = await db.rows("lock_accounts", **_columns(wanted.keys))
    return {AccountKey(name, owner, day): decode_account(data) for name, owner, day, data in rows}


async def _keys_of(db: Database, wanted: wish.KeysOf) -> list[AccountKey]:
    rows = await db.rows("accounts_of", name=wanted.name)
    return [AccountKey(wanted.name, owner, day) for owner, day, _ in rows]


async def _keep_accounts(db: Database, wanted: wish.KeepAccounts) -> None:
    data = [encode_account(account) for account in wanted.accounts.values()]
    await db.run("keep_accounts", **_columns(list(wanted.accounts)), data=data)


async def _holds_for(db: Database, wanted: wish.HoldsFor) -> list[Hold]:
    calls = set(wanted.calls)
    rows = await db.rows("holds_for", runs=[run for run, _ in calls], ids=[id for _, id in calls])
    return [hold for row in rows if ((hold := _hold(row)).run, hold.id) in calls]


async def _holds_in(db: Database, wanted: wish.HoldsIn) -> list[tuple[Hold, HoldState]]:
    rows = await db.rows("holds_in", **wanted.key._asdict())
    return [(_hold(tuple(row)), HoldState(state)) for *row, state in rows]


async def _put_holds(db: Database, wanted: wish.PutHolds) -> None:
    for each in wanted.holds:
        place = {"run": each.run, "id": each.id, **each.key._asdict()}
        await db.run("put_hold", **place, **each.amount._asdict(), epoch=each.epoch, errand=each.errand)


async def _drop_holds(db: Database, wanted: wish.DropHolds) -> None:
    for each in wanted.holds:
        await db.run("drop_hold", run=each.run, id=each.id, **each.key._asdict())


async def _waits_for(db: Database, wanted: wish.WaitsFor) -> list[tuple[int, str, bytes]]:
    rows = await db.rows("waits_for", **_columns(wanted.keys))
    return [(run, step, bytes(mail)) for run, step, mail in rows]


async def _lock_runs(db: Database, wanted: wish.LockRuns) -> None:
    await db.rows("lock_runs", runs=list(wanted.runs))


async def _put_wait(db: Database, wanted: wish.PutWait) -> None:
    key = wanted.key._asdict()
    await db.run("put_money_wait", run=wanted.run, step=wanted.step, mail=wanted.mail, **key)


async def _drop_waits(db: Database, wanted: wish.DropWaits) -> None:
    for run, step in wanted.waits:
        await db.run("drop_money_wait", run=run, step=step)


async def _send_mail(db: Database, wanted: wish.SendMail) -> None:
    await deliver(db, wanted.run, wanted.mail, wanted.now)


_WAYS: dict[type[Any], Callable[[Database, Any], Awaitable[Any]]] = {
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
