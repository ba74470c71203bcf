"""Whatever comes in whatever order: an account never holds and spends more than its cap if calls say the truth."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.accounts import Account, AccountKey, Kin, Terms, accounts_of, day_of, end_of
from perdure.core.budgets import Amount, Lack, Want, hold, make_room, release, shortage, spend, worth
from perdure.core.usage import Used

KEY = AccountKey("b")

#: What happens: somebody asks for so much (None: doesn't say), a call that is being made settles at a part of what it
#: holds, or is lost, or somebody raises the cap.
steps = st.lists(
    st.tuples(st.sampled_from(["ask", "settle", "lose", "raise"]), st.integers(0, 60), st.integers(0, 100)),
    max_size=60,
)


@given(steps)
def test_no_more_is_held_and_spent_than_there_is(happens: Sequence[tuple[str, int, int]]) -> None:
    terms, account = Terms("b", cost=100), Account()
    live: list[Amount] = []
    lost = Amount()
    for now, (what, cost, share) in enumerate(happens):
        if what == "ask":
            want = Want("s", cost)
            short = shortage(terms, KEY, account, want, float(now), lost)
            left = 100 + account.extra - account.spent - account.held
            assert (short is None) == (cost <= left)
            if short is None:
                amount = worth(terms, account, want)
                hold(account, amount)
                live.append(amount)
            elif short.lack is Lack.CROWDED:
                assert (
                    account.spent + lost.cost + cost <= 100 + account.extra
                )  # it would fit without the others
            else:
                assert account.spent + lost.cost + cost > 100 + account.extra
        elif what == "raise":
            make_room(account, cost, 0)
        elif live:
            amount = live.pop()
            if what == "lose":
                lost = Amount(lost.cost + amount.cost)
            else:
                spend(account, "s", [Used(cost=amount.cost * share // 100)], amount, float(now))
                release(account, amount)
        assert account.spent + account.held <= 100 + account.extra
        assert account.held == lost.cost + sum(amount.cost for amount in live)


def test_what_is_not_said_is_guessed_high() -> None:
    terms, account = Terms("b", cost=100, tokens=1000), Account()
    assert worth(terms, account, Want("s")) == Amount(100, 1000)
    assert worth(terms, account, Want("s", 5, 10)) == Amount(5, 10, declared=True)
    for cost in (3, 8, 5):
        spend(account, "s", [Used(input=10, output=cost, cost=cost)], Amount(), 0.0)
    assert worth(terms, account, Want("s")) == Amount(16, 36)
    assert worth(terms, account, Want("other")) == Amount(84, 954)


def test_a_call_without_a_price_costs_what_was_declared() -> None:
    account = Account()
    spend(account, "s", [Used(input=1)], Amount(7, 0, declared=True), 0.0)
    spend(account, "s", [Used(input=1)], Amount(9), 0.0)
    assert (account.spent, account.spent_tokens, account.unpriced, account.calls) == (7, 2, 2, 2)


def test_a_breaker_looks_back_a_minute() -> None:
    terms, account = Terms("b", spike=100), Account()
    spend(account, "s", [Used(cost=80)], Amount(), 1000.0)
    short = shortage(terms, KEY, account, Want("s", 30), 1059.0, Amount())
    assert short is not None
    assert short.lack is Lack.TRIPPED
    later = shortage(terms, KEY, account, Want("s", 30), 9999.0, Amount())
    assert later is not None, "it stays open until somebody closes it"
    assert later.lack is Lack.TRIPPED
    account.tripped_at = None
    assert shortage(terms, KEY, account, Want("s", 30), 1071.0, Amount()) is None


def test_each_ancestor_that_is_covered_has_its_own_account() -> None:
    kin = [Kin("c", "app.child", None), Kin("p", "app.parent", "acme"), Kin("g", "app.parent", "other")]
    names = {
        owner: [key.owner for key in accounts_of(Terms("b", "app.parent", owner=owner), kin, 0.0)]
        for owner in ("run", "workflow", "key", "")
    }
    assert names == {"run": ["p", "g"], "workflow": ["app.parent"], "key": ["acme"], "": [""]}
    assert accounts_of(Terms("b", "app.other"), kin, 0.0) == []
    assert end_of(day_of(86_399.9)) == 86_400.0
