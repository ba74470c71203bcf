"""What budgets ask of a store, answered by hand: what others do between two answers changes what is charged."""

from __future__ import annotations

from perdure.core.accounts import Account, AccountKey
from perdure.core.budgets import Amount
from perdure.core.usage import Used
from perdure.storage import budgeting as wish
from perdure.storage.budgets import Charge, Hold

KEY = AccountKey("b", "", "")


def test_what_others_have_settled_before_the_lock_is_given_back_once() -> None:
    """The hold was read before the account was locked, and is gone by then; what else is held there stays."""
    charge = Charge(1, "s", [Used(cost=3)], id=7)
    hold = Hold(1, 7, KEY, Amount(10, 0, declared=True), 1, "")
    account = Account()
    account.held = 20  # of another call
    settling = wish.settling([charge], [], 0.0)
    assert isinstance(next(settling), wish.HoldsFor)
    assert isinstance(settling.send([hold]), wish.LockAccounts)
    asked: list[object] = []
    answer: object = {KEY: account}
    while True:
        try:
            wanted = settling.send(answer)
        except StopIteration:
            break
        asked.append(wanted)
        answer = [] if isinstance(wanted, wish.HoldsFor) else None
    assert account.held == 20
    assert [type(wanted) for wanted in asked] == [wish.HoldsFor, wish.KeepAccounts]
