"""What budgets allow: what is reserved for a call, and what happens when it is settled.

    ask: what it costs at most ---> held in all of its accounts, or in none
    settle: what it has cost -----> spent there, and no longer held

What is held of a call whose outcome nobody will ever know stays held: its worst case counts as spent.

Whether there is room is one comparison, under the accounts' locks: spent + held + want <= cap. What is held of calls
that are still being made may come back, so a call that only those keep out waits for them (`CROWDED`); else the
budget is used up. A breaker compares the same with what was spent in the last minute; once open, it stays so until
somebody closes it.

All of it is arithmetic in whole billionths of a dollar, and whole tokens. `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from perdure.core.accounts import Account, AccountKey, Terms, end_of, money, told_key
from perdure.core.usage import Used

#: Over so many seconds a breaker looks back, in slots of so many.
MINUTE, SLOT = 60, 10

#: A call of which nobody has said what it costs at most is held at so many times the dearest of its step so far.
CAUTION = 2

#: Of so many steps an account remembers what their calls have cost.
SEEN_MAX = 100


class Want(msgspec.Struct, frozen=True):
    """What a call may cost at most, as far as that was said.

    Attributes:
        step: its step's durable name.
        allowed: a person has let it go beyond.
    """

    step: str
    cost: int | None = None
    tokens: int | None = None
    allowed: bool = False


class Amount(NamedTuple):
    """Money and tokens.

    Attributes:
        declared: somebody has said that it is so much at most.
    """

    cost: int = 0
    tokens: int = 0
    declared: bool = False


class Lack(StrEnum):
    """Why a call can't be made now."""

    EXHAUSTED = "exhausted"  #: it would cost more than there is left
    TRIPPED = "tripped"  #: the breaker is open
    CROWDED = "crowded"  #: what is left is held for calls that are being made


class Shortage(msgspec.Struct, frozen=True):
    """A call can't be made now.

    Attributes:
        why: a sentence for people.
        action: what the budget says is to be done then.
        until: when it gets money by itself, wall-clock seconds.
        version: the account's.
    """

    key: AccountKey
    lack: Lack
    why: str
    action: str
    until: float | None = None
    version: int = 0


# -- reserving ------------------------------------------------------------------------------------------


def worth(terms: Terms, account: Account, want: Want) -> Amount:
    """What is to be held of a call.

    Said by nobody, it is a multiple of what the dearest call of its step has cost so far; of a step that nobody has
    seen, all that is left, so that it goes alone.
    """
    cost, tokens = want.cost, want.tokens
    seen = account.seen.get(want.step)
    if cost is None and seen is not None:
        cost = CAUTION * seen[0]
    if tokens is None and seen is not None:
        tokens = CAUTION * seen[1]
    if cost is None:
        left = 0 if terms.cost is None else terms.cost + account.extra - account.spent - account.held
        cost = 0 if terms.cost is None else max(1, left)
    if tokens is None:
        left = 0 if terms.tokens is None else terms.tokens + account.extra_tokens
        left -= account.spent_tokens + account.held_tokens
        tokens = 0 if terms.tokens is None else max(1, left)
    return Amount(cost, tokens, declared=want.cost is not None)


def shortage(
    terms: Terms, key: AccountKey, account: Account, want: Want, now: float, lost: Amount | None
) -> Shortage | None:
    """Whether an account has no room for a call.

    Args:
        lost: how much of what is held is of calls whose outcome nobody will know; None if that wasn't looked up, and
            then a `CROWDED` means that it has to be.
    """
    amount = worth(terms, account, want)
    minute = spent_lately(account, now)
    stuck = Amount() if lost is None else lost
    if account.tripped_at is not None:
        return _short(terms, key, account, Lack.TRIPPED, _open_breaker(terms, minute))
    lack = max(
        _lack(account.spent, account.held, amount.cost, stuck.cost, terms.cost, account.extra),
        _lack(
            account.spent_tokens,
            account.held_tokens,
            amount.tokens,
            stuck.tokens,
            terms.tokens,
            account.extra_tokens,
        ),
    )
    if lack == 2:
        return _short(terms, key, account, Lack.EXHAUSTED, _standing(terms, account, amount, stuck))
    # what crashes have left held is no part of what was spent this minute
    rush = _lack(minute, account.held - stuck.cost, amount.cost, 0, terms.spike, 0)
    if rush == 2:
        account.tripped_at = now
        return _short(terms, key, account, Lack.TRIPPED, _open_breaker(terms, minute))
    if lack or rush:
        why = f"{_standing(terms, account, amount, stuck)}; what is left is reserved for calls that are being made"
        return _short(terms, key, account, Lack.CROWDED, why)
    return None


def _lack(spent: int, held: int, want: int, stuck: int, cap: int | None, extra: int) -> int:
    """0: there is room. 1: not as long as others are at it. 2: there is none."""
    if cap is None or spent + held + want <= cap + extra:
        return 0
    return 1 if spent + stuck + want <= cap + extra else 2


def _short(terms: Terms, key: AccountKey, account: Account, lack: Lack, why: str) -> Shortage:
    until = end_of(key.day) if key.day else None
    return Shortage(
        key, lack, f"budget {told_key(terms, key)}: {why}", terms.on_exhausted, until, account.version
    )


def spent_lately(account: Account, now: float) -> int:
    """What was spent within the last minute, or a little longer."""
    first = int(now - MINUTE) // SLOT
    return sum(cost for slot, cost in account.recent.items() if slot >= first)


def hold(account: Account, amount: Amount) -> None:
    """Reserve so much."""
    account.held += amount.cost
    account.held_tokens += amount.tokens


# -- settling -------------------------------------------------------------------------------------------


def release(account: Account, amount: Amount) -> None:
    """So much isn't held any more."""
    account.held = max(0, account.held - amount.cost)
    account.held_tokens = max(0, account.held_tokens - amount.tokens)


def spend(account: Account, step: str, used: Iterable[Used], held: Amount, now: float) -> Amount:
    """Charge calls.

    Args:
        held: what was held for them; it counts for a call without a price, if somebody has said that it costs so much.

    Returns:
        What was charged.
    """
    cost = tokens = 0
    for each in used:
        account.calls += 1
        tokens += each.input + each.output
        if each.cost is None:
            account.unpriced += 1
            cost += held.cost if held.declared else 0
        else:
            cost += each.cost
    account.spent += cost
    account.spent_tokens += tokens
    slot = int(now) // SLOT
    oldest = int(now - MINUTE) // SLOT
    recent = {place: was for place, was in account.recent.items() if place >= oldest}
    account.recent = {**recent, slot: recent.get(slot, 0) + cost}
    before = account.seen.get(step, (0, 0))
    if step in account.seen or len(account.seen) < SEEN_MAX:
        account.seen = {**account.seen, step: (max(before[0], cost), max(before[1], tokens))}
    return Amount(cost, tokens)


def make_room(account: Account, cost: int, tokens: int) -> None:
    """Somebody has raised the cap, or closes the breaker."""
    account.extra += cost
    account.extra_tokens += tokens
    account.version += 1
    account.tripped_at = None
    account.recent = {}


# -- telling --------------------------------------------------------------------------------------------


def _standing(terms: Terms, account: Account, amount: Amount, stuck: Amount) -> str:
    told: list[str] = []
    wanted: list[str] = []
    for cap, spent, lost, want, unit in (
        (
            None if terms.cost is None else terms.cost + account.extra,
            account.spent,
            stuck.cost,
            amount.cost,
            money,
        ),
        (
            None if terms.tokens is None else terms.tokens + account.extra_tokens,
            account.spent_tokens,
            stuck.tokens,
            amount.tokens,
            _tokens,
        ),
    ):
        if cap is not None:
            unknown = f", and {unit(lost)} more may be by calls of unknown outcome" if lost else ""
            told.append(f"{unit(spent)} of {unit(cap)} are spent{unknown}")
            wanted.append(unit(want))
    told.append(f"this call may cost {' and '.join(wanted)}" if wanted else "")
    return ", and ".join(part for part in told if part)


def _tokens(number: int) -> str:
    return f"{number} tokens"


def _open_breaker(terms: Terms, minute: int) -> str:
    return (
        f"its breaker is open: {money(minute)} were spent within a minute, and more than "
        f"{money(terms.spike or 0)} a minute count as a spike"
    )
