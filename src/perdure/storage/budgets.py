"""What a store keeps of budgets, and promises about them.

    budgets             what they say, as code declares it
    accounts            how each stands, computed by core/budgets.py under its row's lock
    holds               what is reserved for a call, one for each account that covers it
    waits               steps that can't go on without money, with the mail that wakes their runs

A call is reserved in all of its accounts or in none, in one transaction before its attempt begins. It is settled in the
transaction that books what it has spent (see ledger.py): so whatever crashes, a hold is there exactly as long as the
ledger has no answer.

A hold names the epoch of its driver. If that is over, either the attempt had begun, as the ledger's open entry
tells: then nobody knows what was spent, and the hold stays. Or it hadn't, and won't: then the hold is void. Both are
seen when somebody looks, so a crash needs no writing.

Charges are also made for what wasn't reserved: a step that nobody expected to spend, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from perdure.core.accounts import Account, AccountKey, Definition, Terms
from perdure.core.budgets import Amount, Shortage, Want
from perdure.core.usage import Used
from perdure.storage.effects import Effect

encode_account = msgspec.json.Encoder().encode
decode_account = msgspec.json.Decoder(Account).decode
encode_definition = msgspec.json.Encoder().encode
decode_definition = msgspec.json.Decoder(Definition).decode

#: Under this, in place of a workflow's name, budgets are found that hold for all.
ALL_WORKFLOWS = ""


def workflow_in(data: bytes) -> str:
    """The workflow of an encoded definition, by which it is found."""
    return decode_definition(data).declared.workflow or ALL_WORKFLOWS


class Ask(msgspec.Struct, frozen=True):
    """An attempt is about to begin that may spend.

    Attributes:
        run: key of the run that is charged.
        id: of the ledger's open entry that will be written when it begins.
        want: what it may cost at most.
        epoch, errand: of whoever executes it, as in the ledger's entry.
        waits: the key of the run, and the step's id, under which a wait may stand that is over by this.
    """

    run: int
    id: int
    want: Want
    epoch: int
    errand: str = ""
    waits: tuple[int, str] | None = None


#: Whether something is held for a call, which may begin; or why it may not.
Answer: TypeAlias = bool | Shortage


class Hold(NamedTuple):
    """What is reserved for a call in one account."""

    run: int
    id: int
    key: AccountKey
    amount: Amount
    epoch: int = 0
    errand: str = ""


class HoldState(StrEnum):
    """What may come of a hold."""

    LIVE = "live"  #: its attempt goes on, or is about to begin
    LOST = "lost"  #: nobody will know what it has spent
    VOID = "void"  #: it never began


class Charge(msgspec.Struct, frozen=True):
    """What an attempt has spent.

    Attributes:
        run: key of the run that is charged.
        step: the step's durable name.
        used: its calls.
        id: of its hold; None if it has none.
        keeps: more may have been spent, so what is left of the hold stays.
    """

    run: int
    step: str
    used: Sequence[Used]
    id: int | None = None
    keeps: bool = False


class AwaitMoney(Effect, frozen=True, gc=False):
    """A step of the run waits for room in an account.

    Attributes:
        step: its id.
        version: the account's, as it was when there was none. If it has changed, the mail comes at once.
        mail: the encoded event that lets the step go on.
    """

    step: str
    key: AccountKey
    version: int
    mail: bytes


class Raise(msgspec.Struct, frozen=True):
    """Raise the cap of one account, and close its breaker."""

    key: AccountKey
    cost: int = 0
    tokens: int = 0


class Overrule(msgspec.Struct, frozen=True):
    """Let other caps hold for all accounts of a budget than its code says; with `back` that holds again."""

    name: str
    cost: int | None = None
    tokens: int | None = None
    back: bool = False


class Forget(msgspec.Struct, frozen=True):
    """There is no such budget any more."""

    name: str


Change: TypeAlias = Raise | Overrule | Forget


class Standing(msgspec.Struct, frozen=True):
    """How an account stands.

    Attributes:
        live: how much of what is held is for calls that are being made.
        lost: how much is of calls whose outcome nobody will know.
        waiting: how many steps wait for it.
    """

    key: AccountKey
    account: Account
    live: Amount
    lost: Amount
    waiting: int


class BudgetStore(Protocol):
    """The budgets in a store, as `store.budgets`. Each verb is one transaction."""

    async def define(self, terms: Sequence[Terms], *, now: float) -> list[Terms]:
        """Keep what code declares; the newest word holds, and who waits for a budget that changes asks again.

        Returns:
            Those that said something else before, as they were.
        """
        ...

    async def reserve(self, asks: Sequence[Ask], *, now: float) -> list[Answer] | None:
        """Reserve for each of these calls what it may cost at most, in all of its accounts or in none.

        A repeat recognises itself.

        Returns:
            An answer for each; None if there are no budgets at all.
        """
        ...

    async def change(self, change: Change, *, now: float) -> bool:
        """Make room, and send all those the mail they wait for who may go on by it.

        Returns:
            False if there is no such budget.
        """
        ...

    async def definitions(self) -> list[Definition]:
        """All budgets, by name."""
        ...

    async def standings(self, name: str) -> list[Standing]:
        """All accounts of a budget that anybody has asked for, in the order of their keys."""
        ...
