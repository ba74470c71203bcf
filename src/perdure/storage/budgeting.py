"""How budgets are asked, charged and changed: one algorithm for all stores.

Each is a generator. It yields what it wants of the tables, and gets the answer sent; so what is here is the same for
every store, and a store knows statements only. All of one generator is one transaction.

Locks are taken in one order by everybody: first runs, then accounts in the order of their keys. An append has its runs
locked already.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from perdure.core.accounts import Account, AccountKey, Definition, Kin, Terms, accounts_of
from perdure.core.budgets import Amount, Lack, Shortage, hold, make_room, release, shortage, spend, worth
from perdure.storage.budgets import (
    Answer,
    Ask,
    AwaitMoney,
    Change,
    Charge,
    Forget,
    Hold,
    HoldState,
    Overrule,
    Raise,
    Standing,
)


class AllDefinitions(msgspec.Struct, frozen=True):
    """All budgets: list[Definition]."""


class DefinitionsFor(msgspec.Struct, frozen=True):
    """The budgets that may be charged for runs of these workflows, by name: list[Definition]; None if there are no
    budgets at all. There may be others among them.
    """

    workflows: Sequence[str]


class KeepDefinition(msgspec.Struct, frozen=True):
    """Write a budget, or drop it with its accounts, holds and waits."""

    name: str
    definition: Definition | None


class KinOf(msgspec.Struct, frozen=True):
    """A run and those that have started it: list[Kin], the run first; empty if it isn't there."""

    run: int


class LockAccounts(msgspec.Struct, frozen=True):
    """Lock accounts, which are made if they are missing: dict[AccountKey, Account]. The keys are in order."""

    keys: Sequence[AccountKey]


class KeysOf(msgspec.Struct, frozen=True):
    """The keys of all accounts of a budget: list[AccountKey]."""

    name: str


class KeepAccounts(msgspec.Struct, frozen=True):
    """Write accounts that are locked."""

    accounts: Mapping[AccountKey, Account]


class HoldsFor(msgspec.Struct, frozen=True):
    """What is held for these calls, given by run and id: list[Hold]."""

    calls: Sequence[tuple[int, int]]


class HoldsIn(msgspec.Struct, frozen=True):
    """What is held in an account: list[tuple[Hold, HoldState]]."""

    key: AccountKey


class PutHolds(msgspec.Struct, frozen=True):
    """Write holds; those that are there get the new amount."""

    holds: Sequence[Hold]


class DropHolds(msgspec.Struct, frozen=True):
    """Drop holds."""

    holds: Sequence[Hold]


class WaitsFor(msgspec.Struct, frozen=True):
    """Who waits for these accounts: list[tuple[int, str, bytes]], being run, step and mail."""

    keys: Sequence[AccountKey]


class LockRuns(msgspec.Struct, frozen=True):
    """Lock runs, in the order of their keys."""

    runs: Sequence[int]


class PutWait(msgspec.Struct, frozen=True):
    """A step of a run waits."""

    run: int
    step: str
    key: AccountKey
    mail: bytes


class DropWaits(msgspec.Struct, frozen=True):
    """These don't wait any more, by run and step."""

    waits: Sequence[tuple[int, str]]


class SendMail(msgspec.Struct, frozen=True):
    """Put mail into a run's inbox."""

    run: int
    mail: bytes
    now: float


#: What a generator yields, and what it returns in the end.
Wish: TypeAlias = Any


# -- declaring ------------------------------------------------------------------------------------------


def defining(declared: Sequence[Terms], now: float) -> Generator[Wish, Any, list[Terms] | None]:
    """See BudgetStore.define. A cap that a person has set holds as long as the code says what it said then.

    Returns:
        None as `changing` does.
    """
    known: dict[str, Definition] = {each.declared.name: each for each in (yield AllDefinitions())}
    replaced: list[Terms] = []
    for terms in declared:
        before = known.get(terms.name)
        if before is not None and before.declared == terms:
            continue
        if before is not None:
            if not (yield from _wake(sorted((yield KeysOf(terms.name))), None, now)):
                return None
            replaced.append(before.declared)
        yield KeepDefinition(terms.name, Definition(terms))
    return replaced


# -- reserving ------------------------------------------------------------------------------------------


def reserving(asks: Sequence[Ask], now: float) -> Generator[Wish, Any, list[Answer] | None]:
    """See BudgetStore.reserve."""
    kin: dict[int, list[Kin]] = {}
    for ask in asks:
        if ask.run not in kin:
            kin[ask.run] = yield KinOf(ask.run)
    definitions: list[Definition] | None = yield _for(kin.values())
    if definitions is None:
        return None
    places = [
        [(each.terms, key) for each in definitions for key in accounts_of(each.terms, kin[ask.run], now)]
        for ask in asks
    ]
    keys = sorted({key for covering in places for _, key in covering})
    accounts: dict[AccountKey, Account] = (yield LockAccounts(keys)) if keys else {}
    held = {(each.run, each.id) for each in (yield HoldsFor([(ask.run, ask.id) for ask in asks]))}
    lost: dict[AccountKey, Amount] = {}
    answers: list[Answer] = []
    holds: list[Hold] = []
    for ask, covering in zip(asks, places, strict=True):
        if (ask.run, ask.id) in held:
            answers.append(True)
            continue
        short = None if ask.want.allowed else (yield from _short(ask, covering, accounts, lost, now))
        if short is not None:
            answers.append(short)
            continue
        for terms, key in covering:
            amount = worth(terms, accounts[key], ask.want)
            hold(accounts[key], amount)
            holds.append(Hold(ask.run, ask.id, key, amount, ask.epoch, ask.errand))
        answers.append(bool(covering))
    if holds:
        yield PutHolds(holds)
    if keys:
        yield KeepAccounts(accounts)
    over = [ask.waits for ask, answer in zip(asks, answers, strict=True) if ask.waits and answer is True]
    if over:
        yield DropWaits(over)
    return answers


def _for(kin: Iterable[Sequence[Kin]]) -> DefinitionsFor:
    return DefinitionsFor(sorted({each.workflow for runs in kin for each in runs}))


def _short(
    ask: Ask,
    covering: Sequence[tuple[Terms, AccountKey]],
    accounts: Mapping[AccountKey, Account],
    lost: dict[AccountKey, Amount],
    now: float,
) -> Generator[Wish, Any, Shortage | None]:
    """Why a call can't be made: rather because money is spent than because others are at it."""
    crowded: Shortage | None = None
    for terms, key in covering:
        account = accounts[key]
        short = shortage(terms, key, account, ask.want, now, lost.get(key))
        if short is not None and short.lack is Lack.CROWDED and key not in lost:
            lost[key] = yield from _look(key, account)
            short = shortage(terms, key, account, ask.want, now, lost[key])
        if short is not None and short.lack is not Lack.CROWDED:
            return short
        crowded = crowded or short
    return crowded


def _look(key: AccountKey, account: Account) -> Generator[Wish, Any, Amount]:
    """How much of what an account holds is of calls whose outcome nobody will know; what is void goes."""
    found: list[tuple[Hold, HoldState]] = yield HoldsIn(key)
    void = [each for each, state in found if state is HoldState.VOID]
    for each in void:
        release(account, each.amount)
    if void:
        yield DropHolds(void)
    return total(each.amount for each, state in found if state is HoldState.LOST)


def standing(
    key: AccountKey, account: Account, held: Iterable[tuple[Hold, HoldState]], waiting: int
) -> Standing:
    """How an account stands, by what is held in it."""
    by_state: dict[HoldState, list[Amount]] = {state: [] for state in HoldState}
    for each, state in held:
        by_state[state].append(each.amount)
    live, lost = total(by_state[HoldState.LIVE]), total(by_state[HoldState.LOST])
    return Standing(key, account, live, lost, waiting)


def total(amounts: Iterable[Amount]) -> Amount:
    """Their sum."""
    cost = tokens = 0
    for amount in amounts:
        cost += amount.cost
        tokens += amount.tokens
    return Amount(cost, tokens)


# -- settling -------------------------------------------------------------------------------------------


def settling(
    charges: Sequence[Charge], waits: Sequence[tuple[int, AwaitMoney]], now: float
) -> Generator[Wish, Any, None]:
    """What appends, or the ledger's late entries, bring.

    Args:
        waits: steps that wait from now on, with their runs' keys.
    """
    held: dict[tuple[int, int], list[Hold]] = {}
    calls = [(charge.run, charge.id) for charge in charges if charge.id is not None]
    if calls:
        found: list[Hold] = yield HoldsFor(calls)
        for each in found:
            held.setdefault((each.run, each.id), []).append(each)
    places: list[list[tuple[AccountKey, Hold | None]]] = []
    kin: dict[int, list[Kin]] = {}  # of those for which nothing is held
    for charge in charges:
        holds = held.get((charge.run, charge.id), ()) if charge.id is not None else ()
        places.append([(each.key, each) for each in holds])
        if not holds and charge.used and charge.run not in kin:
            kin[charge.run] = yield KinOf(charge.run)
    definitions: list[Definition] = ((yield _for(kin.values())) or []) if kin else []
    for charge, covering in zip(charges, places, strict=True):
        if not covering and charge.used:
            keys_of = [accounts_of(each.terms, kin[charge.run], now) for each in definitions]
            covering += [(key, None) for several in keys_of for key in several]
    keys = sorted({key for covering in places for key, _ in covering} | {wait.key for _, wait in waits})
    if not keys:
        return
    accounts: dict[AccountKey, Account] = yield LockAccounts(keys)
    if held:  # again, since others may have settled the same meanwhile: what is told late, say
        again: list[Hold] = yield HoldsFor(calls)
        still = {(each.run, each.id, each.key): each for each in again}
        places = [
            [(key, None if each is None else still.get((each.run, each.id, key))) for key, each in covering]
            for covering in places
        ]
    dropped: list[Hold] = []
    kept: list[Hold] = []
    for charge, covering in zip(charges, places, strict=True):
        for key, held_there in covering:
            _settle(charge, accounts[key], held_there, now, dropped, kept)
    if dropped:
        yield DropHolds(dropped)
    if kept:
        yield PutHolds(kept)
    yield KeepAccounts(accounts)
    for run, wait in waits:
        if accounts[wait.key].version != wait.version:
            yield SendMail(run, wait.mail, now)
        else:
            yield PutWait(run, wait.step, wait.key, wait.mail)


def _settle(
    charge: Charge,
    account: Account,
    held: Hold | None,
    now: float,
    dropped: list[Hold],
    kept: list[Hold],
) -> None:
    amount = Amount() if held is None else held.amount
    spent = spend(account, charge.step, charge.used, amount, now) if charge.used else Amount()
    if held is None:
        return
    if not charge.keeps:
        release(account, amount)
        dropped.append(held)
    elif spent.cost or spent.tokens:  # the worst case was that of all calls together
        part = Amount(min(spent.cost, amount.cost), min(spent.tokens, amount.tokens))
        release(account, part)
        left = Amount(amount.cost - part.cost, amount.tokens - part.tokens, amount.declared)
        kept.append(held._replace(amount=left))


# -- changing -------------------------------------------------------------------------------------------


def changing(change: Change, now: float) -> Generator[Wish, Any, bool | None]:
    """See BudgetStore.change.

    Returns:
        None if somebody began to wait meanwhile whose run isn't locked: nothing was done, begin anew.
    """
    name = change.key.name if isinstance(change, Raise) else change.name
    known: dict[str, Definition] = {each.declared.name: each for each in (yield AllDefinitions())}
    if name not in known:
        return False
    keys: list[AccountKey] = [change.key] if isinstance(change, Raise) else sorted((yield KeysOf(name)))
    if not (yield from _wake(keys, change if isinstance(change, Raise) else None, now)):
        return None
    if isinstance(change, Overrule):
        definition = known[name]
        definition.overruled = not change.back
        definition.cost = None if change.back else change.cost
        definition.tokens = None if change.back else change.tokens
        yield KeepDefinition(name, definition)
    if isinstance(change, Forget):
        yield KeepDefinition(name, None)
    return True


def _wake(keys: Sequence[AccountKey], more: Raise | None, now: float) -> Generator[Wish, Any, bool]:
    """Make room in accounts, or only a new version of them, and send everybody their mail who waits for them.

    Returns:
        False if somebody waits whose run isn't locked, and nothing was done.
    """
    if not keys:
        return True
    waiting: list[tuple[int, str, bytes]] = yield WaitsFor(keys)
    runs = sorted({run for run, _, _ in waiting})
    if runs:
        yield LockRuns(runs)
    accounts: dict[AccountKey, Account] = yield LockAccounts(keys)
    waiting = yield WaitsFor(keys)
    if not {run for run, _, _ in waiting} <= set(runs):
        return False
    for account in accounts.values():
        if more is not None:
            make_room(account, more.cost, more.tokens)
        else:
            account.version += 1
    yield KeepAccounts(accounts)
    for run, _, mail in waiting:
        yield SendMail(run, mail, now)
    if waiting:
        yield DropWaits([(run, step) for run, step, _ in waiting])
    return True
