"""No window ever holds more than a limit allows, whoever asks, comes back late, gives back, or is turned away."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from itertools import count

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.limiting import HORIZON, NAP, turn, usage
from perdure.core.permits import (
    Ask,
    Batch,
    Block,
    Change,
    Definition,
    LimitState,
    Permit,
    Reset,
    Settlement,
    Unblock,
)
from perdure.core.rates import MICRO, Rate

START = 1_700_000_000 * MICRO

_rates = st.builds(
    lambda limit, share, per: Rate(limit, per, max(1, math.ceil(limit * share))),
    st.integers(1, 60),
    st.floats(0.001, 1.0),
    st.floats(0.05, 600.0),
)


class Caller(msgspec.Struct):
    """Somebody who wants to begin: how much they say they need, and what they will have used, as shares."""

    pause: float  #: since the one before, in periods
    says: float
    uses: float
    lateness: float  #: with which a permission is used, as share of its slack
    dawdles: float  #: with which they come again, in periods
    lasts: float  #: how long the call takes, in periods
    blocks: float  #: for how long the answer blocks the limit, in periods


_callers = st.builds(
    Caller,
    pause=st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 3.0)),
    says=st.one_of(st.just(0.0), st.floats(0, 1)),
    uses=st.one_of(st.just(1.0), st.just(0.0), st.floats(0, 1)),
    lateness=st.floats(0, 1),
    dawdles=st.one_of(st.just(0.0), st.just(0.0), st.floats(0, 0.1), st.floats(0, 2)),
    lasts=st.one_of(st.just(0.0), st.floats(0, 0.2), st.floats(0, 4)),
    blocks=st.sampled_from([0.0] * 9 + [0.5]),
)


class Begun(msgspec.Struct):
    at: int
    tokens: int


def most(begun: Sequence[tuple[int, int]], per: int) -> int:
    """The most that begins within any window [t, t + per)."""
    begun = sorted(begun)
    best = held = first = 0
    for moment, amount in begun:
        held += amount
        while begun[first][0] <= moment - per:
            held -= begun[first][1]
            first += 1
        best = max(best, held)
    return best


def one(states: dict[str, LimitState], now: int, *changes: Change, ask: Ask | None = None) -> Permit | None:
    answers = turn(states, Batch(changes=changes, asks=() if ask is None else (ask,)), now)
    return answers.permits[0] if answers.permits else None


def simulate(rates: Mapping[str, Rate], callers: Sequence[Caller]) -> tuple[list[Begun], list[int]]:
    """All of it in the order of time. Returns what began, and the moments at which somebody came."""
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", rates)]), START)
    period = rates["tokens"].per * MICRO
    numbers, came = count(), list[int]()
    begun: list[Begun] = []
    line: list[tuple[int, int, Caller, bool, Settlement | None]] = []
    moment = START
    for caller in callers:
        moment += int(caller.pause * period)
        heapq.heappush(line, (moment, next(numbers), caller, False, None))
    while line:
        now, _, caller, waited, settlement = heapq.heappop(line)
        if settlement is not None:
            one(states, now, settlement)
            if caller.blocks:
                one(states, now, Block("l", now + int(caller.blocks * period)))
            continue
        came.append(now)
        tokens = round(caller.says * rates["tokens"].limit)
        permit = one(states, now, ask=Ask({"l": {"requests": 1, "tokens": tokens}}, waited))
        assert permit is not None
        assert permit.at >= now
        if not permit.firm:
            assert permit.at > now + HORIZON
            again = permit.at + int(caller.dawdles * period)
            heapq.heappush(line, (again, next(numbers), caller, True, None))
            continue
        assert permit.at <= now + HORIZON
        assert permit.at >= states["l"].blocked_until
        used = round(caller.uses * tokens)
        begins = permit.at + int(caller.lateness * permit.slack)
        begun.append(Begun(begins, used))
        what = Settlement("l", "tokens", tokens, used, permit.marks["l"]["tokens"])
        heapq.heappush(line, (begins + int(caller.lasts * period), next(numbers), caller, False, what))
    return begun, came


@settings(max_examples=300, deadline=None)
@given(_rates, _rates, st.lists(_callers, min_size=1, max_size=80))
def test_no_window_exceeds_a_limit(requests: Rate, tokens: Rate, callers: list[Caller]) -> None:
    begun, _ = simulate({"requests": requests, "tokens": tokens}, callers)
    assert len(begun) == len(callers)
    assert most([(item.at, 1) for item in begun], math.floor(requests.per * MICRO)) <= requests.limit
    assert most([(item.at, item.tokens) for item in begun], math.floor(tokens.per * MICRO)) <= tokens.limit


def quick(**fields: float) -> Caller:
    given = {
        "pause": 0.0,
        "says": 0.0,
        "uses": 1.0,
        "lateness": 0.0,
        "dawdles": 0.0,
        "lasts": 0.0,
        "blocks": 0.0,
    }
    return Caller(**{**given, **fields})


def spread(rate: Rate, callers: Sequence[Caller]) -> tuple[float, int]:
    """How many periods it takes until all have begun, and how often somebody came."""
    begun, came = simulate({"requests": Rate(10_000, 1), "tokens": rate}, callers)
    return (max(item.at for item in begun) - START) / (rate.per * MICRO), len(came)


def test_who_waits_comes_again_once() -> None:
    """With everybody in time, a place in line is a promise: two looks for each, at nearly the whole rate."""
    periods, came = spread(Rate(100, 60), [quick(says=0.01)] * 1000)
    assert came <= 2000
    assert periods < 1000 / 100 * 1.2


def test_who_comes_late_is_not_sent_to_the_end_of_the_line() -> None:
    """A hundred newcomers stand behind one who comes again, a second late: it begins at once."""
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(60, 60, burst=1)})]), START)
    ask = Ask({"l": {"requests": 1}})
    first, second = (one(states, START, ask=ask) for _ in range(2))
    assert first is not None
    assert first.firm
    assert second is not None
    assert not second.firm
    others = [one(states, START, ask=ask) for _ in range(100)]
    assert others[-1] is not None
    assert others[-1].at > START + 100 * MICRO
    late = one(states, second.at + MICRO, ask=Ask({"l": {"requests": 1}}, waited=True))
    assert late is not None
    assert late.firm
    assert late.at == second.at + MICRO


def test_those_who_all_come_late_are_put_off_to_different_moments() -> None:
    """Nobody was there for an hour, and a hundred come again at once: no herd."""
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(60, 60, burst=1)})]), START)
    for _ in range(101):
        one(states, START, ask=Ask({"l": {"requests": 1}}))
    now = START + 3600 * MICRO
    answers = [one(states, now, ask=Ask({"l": {"requests": 1}}, waited=True)) for _ in range(100)]
    moments = [permit.at for permit in answers if permit is not None]
    assert len(set(moments)) == 100
    assert moments[0] == now
    newcomer = one(states, now, ask=Ask({"l": {"requests": 1}}))
    assert newcomer is not None
    assert newcomer.at > max(moments)


def test_what_comes_back_soon_lets_the_line_move_faster() -> None:
    """Everybody says four times what they use, and tells soon: it takes less than half the time."""
    callers = [quick(says=0.04, uses=0.25, lasts=0.02, pause=0.015) for _ in range(1000)]
    given_back, came = spread(Rate(100, 60, burst=20), callers)
    kept, _ = spread(Rate(100, 60, burst=20), [quick(says=0.04, pause=0.015) for _ in range(1000)])
    assert given_back < 0.5 * kept
    assert came < 3000


def test_what_comes_back_after_the_bucket_has_dripped_on_is_of_no_use() -> None:
    """Ten calls lasted longer than the window and give all back at once: still no more than the burst begins."""
    states: dict[str, LimitState] = {}
    rate = Rate(100, 60, burst=50)
    turn(states, Batch(definitions=[Definition("l", {"tokens": rate})]), START)
    now, held = START, list[Permit]()
    for _ in range(10):
        permit = one(states, now, ask=Ask({"l": {"tokens": 50}}, waited=True))
        assert permit is not None
        assert permit.firm
        held.append(permit)
        now += 120 * MICRO
    back = [Settlement("l", "tokens", 50, 0, permit.marks["l"]["tokens"]) for permit in held]
    one(states, now, *back)
    begun = 0
    while (permit := one(states, now, ask=Ask({"l": {"tokens": 1}}))) is not None and permit.at == now:
        begun += 1
    assert begun == 50


def test_what_was_used_beyond_is_owed() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"tokens": Rate(100, 60, burst=100)})]), START)
    permit = one(states, START, ask=Ask({"l": {"tokens": 0}}))
    assert permit is not None
    assert permit.at == START
    one(states, START, Settlement("l", "tokens", 0, 150, permit.marks["l"]["tokens"]))
    after = one(states, START, ask=Ask({"l": {"tokens": 1}}))
    assert after is not None
    assert after.at > START + 30 * MICRO


def test_more_than_the_burst_begins_when_the_bucket_was_left_alone_for_it() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"tokens": Rate(100, 60, burst=10)})]), START)
    ask = {"l": {"tokens": 100}}
    first = one(states, START, ask=Ask(ask))
    assert first is not None
    assert not first.firm
    again = one(states, first.at, ask=Ask(ask, waited=True))
    assert again is not None
    assert again.firm


def test_nothing_begins_while_it_is_blocked_and_a_block_is_never_cut_short() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(60, 60)})]), START)
    until = START + 30 * MICRO
    one(states, START, Block("l", until), Block("l", START + MICRO))
    answers = [one(states, START, ask=Ask({"l": {"requests": 1}}, waited)) for waited in (False, True)]
    assert all(permit is not None and permit.at >= until for permit in answers)
    assert usage(states["l"], START)["requests"].free == 0
    one(states, START, Unblock("l"), Reset("l"))
    assert (now := one(states, START, ask=Ask({"l": {"requests": 1}}))) is not None
    assert now.at == START


def test_during_a_long_block_everybody_looks_now_and_then_whether_it_still_holds() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(60, 60)})]), START)
    one(states, START, Block("l", START + 7200 * MICRO))
    ask = Ask({"l": {"requests": 1}})
    moments = {permit.at for _ in range(100) if (permit := one(states, START, ask=ask)) is not None}
    assert moments == {START + NAP}
    one(states, START, Unblock("l"))
    again = one(states, START + NAP, ask=Ask({"l": {"requests": 1}}, waited=True))
    assert again is not None
    assert again.firm


def test_what_can_never_be_is_told_and_reserves_nothing() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(5, 1), "tokens": Rate(10, 1)})]), START)
    before = msgspec.json.encode(states)
    permit = one(states, START, ask=Ask({"l": {"requests": 1, "tokens": 11}}))
    assert permit is not None
    assert permit.impossible.startswith(
        "11 tokens at once are more than the 10 per 1 s of the rate limit 'l'"
    )
    assert msgspec.json.encode(states) == before


def test_a_definition_holds_until_a_fresh_one_replaces_it() -> None:
    states: dict[str, LimitState] = {}
    old, new = {"requests": Rate(60, 60)}, {"requests": Rate(6, 60, burst=1), "tokens": Rate(5, 1)}
    turn(states, Batch(definitions=[Definition("l", old)]), START)
    assert not turn(states, Batch(definitions=[Definition("l", new)]), START).replaced
    assert states["l"].units["requests"].rate == old["requests"]
    one(states, START, ask=Ask({"l": {"requests": 6}}))
    assert not turn(states, Batch(definitions=[Definition("l", old, fresh=True)]), START).replaced
    assert turn(states, Batch(definitions=[Definition("l", new, fresh=True)]), START).replaced == [
        Definition("l", old)
    ]
    assert {unit: item.rate for unit, item in usage(states["l"], START).items()} == new
    permit = one(states, START, ask=Ask({"l": {"requests": 1}}, waited=True))
    assert permit is not None
    assert permit.at >= START + 50 * MICRO


def test_who_waits_is_seen() -> None:
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(100, 60, burst=10)})]), START)
    for _ in range(25):
        one(states, START, ask=Ask({"l": {"requests": 1}}))
    seen = usage(states["l"], START)["requests"]
    assert (seen.free, seen.waiting) == (0, 15)
    assert seen.next_at > START + 10 * MICRO


def test_a_line_whose_people_never_come_is_forgotten_after_a_period() -> None:
    """A thousand runs wait, and are all cancelled: who comes later doesn't wait for them."""
    states: dict[str, LimitState] = {}
    turn(states, Batch(definitions=[Definition("l", {"requests": Rate(60, 60, burst=1)})]), START)
    ask = Ask({"l": {"requests": 1}})
    for _ in range(1000):
        one(states, START, ask=ask)
    soon = one(states, START + 30 * MICRO, ask=ask)
    assert soon is not None
    assert soon.at > START + 900 * MICRO
    later = one(states, START + 70 * MICRO, ask=ask)
    assert later is not None
    assert later.firm


def test_a_step_with_several_limits_begins_when_all_agree() -> None:
    states: dict[str, LimitState] = {}
    definitions = [Definition(name, {"requests": Rate(60, 60, burst=1)}) for name in ("a", "b")]
    turn(states, Batch(definitions=definitions), START)
    one(states, START, Block("b", START + MICRO))
    both = one(states, START, ask=Ask({"a": {"requests": 1}, "b": {"requests": 1}}))
    assert both is not None
    assert (both.firm, both.limit, both.at) == (False, "b", START + MICRO)
