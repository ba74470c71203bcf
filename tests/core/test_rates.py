"""No window of a rate's length ever holds more than its limit, whoever asks for how much and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.rates import MICRO, Demand, Pace, Rate, reserve, room

START = 1_700_000_000 * MICRO

_rates = st.builds(
    lambda limit, share, per: Rate(limit, per, max(1, math.ceil(limit * share))),
    st.integers(1, 300),
    st.floats(0.001, 1.0),
    st.floats(0.01, 5000.0),
)
_pauses = st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 3.0))  # in periods


def _most(begun: list[tuple[int, int]], per: int) -> int:
    """The most that begins within any window [t, t + per)."""
    begun = sorted(begun)
    most = held = first = 0
    for moment, cost in begun:
        held += cost
        while begun[first][0] <= moment - per:
            held -= begun[first][1]
            first += 1
        most = max(most, held)
    return most


@given(_rates, st.lists(st.tuples(_pauses, st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=120))
def test_no_window_exceeds_the_limit(rate: Rate, asked: list[tuple[float, float, float]]) -> None:
    """Whatever the order of pauses and sizes, and however late within the slack each permission is used."""
    pace, per = rate.pace, math.floor(rate.per * MICRO)
    now, arrival, begun = START, 0, []
    for pause, size, lateness in asked:
        now += int(pause * per)
        cost = max(1, min(rate.limit, round(size * rate.limit)))
        ready, (arrival,) = reserve([Demand(pace, arrival, cost)], now)
        assert ready >= now
        begun.append((ready + int(lateness * pace.slack), cost))
    assert _most(begun, per) <= rate.limit


@given(_rates, _rates, st.lists(st.tuples(_pauses, st.floats(0, 1)), min_size=1, max_size=80))
def test_two_buckets_are_both_kept(calls: Rate, tokens: Rate, asked: list[tuple[float, float]]) -> None:
    now, arrivals, begun = START, [0, 0], []
    for pause, size in asked:
        now += int(pause * calls.per * MICRO)
        cost = min(tokens.limit, round(size * tokens.limit))
        demands = [Demand(calls.pace, arrivals[0], 1), Demand(tokens.pace, arrivals[1], cost)]
        ready, arrivals = reserve(demands, now)
        begun.append((ready, cost))
    assert _most([(moment, 1) for moment, _ in begun], int(calls.per * MICRO)) <= calls.limit
    assert _most(begun, int(tokens.per * MICRO)) <= tokens.limit


@given(_rates, st.lists(st.tuples(_pauses, st.integers(1, 1000)), min_size=1, max_size=60))
def test_room_begins_as_many_as_single_reservations_would(rate: Rate, asked: list[tuple[float, int]]) -> None:
    pace, now, arrival = rate.pace, START, 0
    for pause, wanted in asked:
        now += int(pause * rate.per * MICRO)
        free, at = room(pace, arrival, now)
        assert (at == now) == (free > 0)
        if not free:
            assert room(pace, arrival, at)[0] >= 1
            assert room(pace, arrival, at - 1)[0] == 0
        for _ in range(min(free, wanted)):
            ready, (arrival,) = reserve([Demand(pace, arrival, 1)], now)
            assert ready == now
        if wanted >= free:
            assert reserve([Demand(pace, arrival, 1)], now)[0] > now


def test_a_steady_demand_gets_nearly_the_whole_rate() -> None:
    """Strictness costs the burst and the slack once: 500 a minute give at least 430 in the tenth minute."""
    rate, arrival, begun = Rate(500, per=60), 0, []
    for _ in range(5000):
        ready, (arrival,) = reserve([Demand(rate.pace, arrival, 1)], START)
        begun.append(ready)
    tenth = [moment for moment in begun if START + 540 * MICRO <= moment < START + 600 * MICRO]
    assert 430 <= len(tenth) <= 500


def test_nothing_begins_before_the_moment_until_which_all_is_blocked() -> None:
    pace = Rate(10, per=1).pace
    ready, (arrival,) = reserve([Demand(pace, 0, 1)], START, not_before=START + MICRO)
    assert ready == START + MICRO
    assert arrival > ready


def test_what_can_never_be_is_refused() -> None:
    with pytest.raises(ValueError, match="never be allowed"):
        reserve([Demand(Rate(10, per=1).pace, 0, 11)], START)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate(0, per=1),
        lambda: Rate(1, per=0),
        lambda: Rate(1, per=math.inf),
        lambda: Rate(1, per=math.nan),
        lambda: Rate(5, per=1, burst=6),
        lambda: Rate(5, per=1, burst=0),
    ],
)
def test_rates_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"limit is a count|burst is a count"):
        make()  # type: ignore[operator]


def test_pace_is_plain_data() -> None:
    assert Rate(1, per=1).pace == Pace(limit=1, burst=1, interval=1_050_000, slack=50_000)
