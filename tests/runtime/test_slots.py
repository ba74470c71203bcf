"""When slots are: intervals and single moments; and which of them have come. Cron: test_cron_slots.py."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.schedules import Overlap, Schedule, Timing
from perdure.runtime import slots
from perdure.runtime.slots import SLOTS_MAX, come, first_after


def first(timing: Timing, after: float, count: int) -> list[float]:
    return list(itertools.islice(slots.slots(timing, after), count))


def schedule(timing: Timing, next: float | None, catch_up: float = 3600.0) -> Schedule:
    return Schedule(
        name="s", timing=timing, workflow="w", input=b"", queue="q", overlap=Overlap.SKIP, catch_up=catch_up,
        created_at=0.0, next=next,
    )  # fmt: skip


# -- intervals and single moments -----------------------------------------------------------------------


def test_an_interval_counts_from_its_start() -> None:
    timing = Timing(every=10.0, start=1000.0)
    assert first(timing, 1000.0, 3) == [1010.0, 1020.0, 1030.0]
    assert first(timing, 1010.0, 1) == [1020.0]
    assert first(timing, 1019.99, 1) == [1020.0]
    assert first(timing, 5.0, 1) == [1010.0]


@given(st.floats(0.1, 1e6), st.floats(1e9, 2e9), st.floats(0, 1e8))
def test_an_interval_is_the_same_wherever_one_begins_to_count(
    every: float, start: float, later: float
) -> None:
    timing = Timing(every=every, start=start)
    found = first(timing, start + later, 5)
    assert all(b > a for a, b in itertools.pairwise(found))
    for slot, following in itertools.pairwise(found):
        assert first_after(timing, slot) == following


def test_a_single_moment_comes_once() -> None:
    timing = Timing(at=500.0)
    assert first(timing, 499.0, 3) == [500.0]
    assert first(timing, 500.0, 3) == []


# -- what has come --------------------------------------------------------------------------------------


def test_slots_that_have_come() -> None:
    timing = Timing(every=10.0, start=1000.0)
    assert come(schedule(timing, 1010.0), 1009.0) == ([], 0, 1010.0)
    assert come(schedule(timing, 1010.0), 1010.0) == ([1010.0], 0, 1020.0)
    assert come(schedule(timing, 1010.0), 1045.0) == ([1010.0, 1020.0, 1030.0, 1040.0], 0, 1050.0)
    assert come(schedule(timing, None), 1045.0) == ([], 0, None)
    assert come(schedule(Timing(at=500.0), 500.0), 600.0) == ([500.0], 0, None)


def test_what_is_older_than_the_window_is_missed() -> None:
    timing = Timing(every=10.0, start=1000.0)
    assert come(schedule(timing, 1010.0, catch_up=25.0), 1060.0) == ([1040.0, 1050.0, 1060.0], 3, 1070.0)
    assert come(schedule(Timing(at=500.0), 500.0, catch_up=60.0), 600.0) == ([], 1, None)


def test_a_slot_of_a_moment_ago_is_never_missed() -> None:
    assert come(schedule(Timing(at=500.0), 500.0, catch_up=0.0), 509.0) == ([500.0], 0, None)


def test_a_year_of_seconds_is_counted_at_once() -> None:
    year = 365 * 86400
    found, missed, after = come(schedule(Timing(every=1.0, start=0.0), 1.0, catch_up=0.0), float(year))
    assert missed + len(found) == year
    assert after == year + 1


def test_many_slots_come_in_portions() -> None:
    timing = Timing(every=1.0, start=0.0)
    found, missed, after = come(schedule(timing, 1.0, catch_up=1e9), 10_000.0)
    assert (len(found), missed, after) == (SLOTS_MAX, 0, SLOTS_MAX + 1.0)


@given(st.floats(0.1, 100), st.floats(0, 500), st.floats(0, 1000), st.floats(0, 50))
def test_no_slot_is_lost_or_told_twice(every: float, window: float, ahead: float, jitter: float) -> None:
    """Whenever one looks, and however often: each slot is told once, or missed once."""
    timing = Timing(every=every, start=0.0, jitter=jitter)
    now, told, missed = 0.0, list[float](), 0
    state = schedule(timing, first_after(timing, 0.0), window)
    for step in (ahead, ahead / 3, ahead * 2, 1.0):
        now += step
        found, more, after = come(state, now)
        told += found
        missed += more
        assert after is not None
        state = schedule(timing, after, window)
    assert told == sorted(set(told))
    every_slot = list(itertools.takewhile(lambda slot: slot < after, slots.slots(timing, 0.0)))
    assert len(told) + missed == len(every_slot)
