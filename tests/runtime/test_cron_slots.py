"""When cron expressions have slots, in time zones whose clocks change, and what is said of wrong ones."""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perdure.core.schedules import Timing
from perdure.errors import ConfigurationError
from perdure.runtime import slots
from perdure.runtime.slots import check, first_after

pytest.importorskip("cronsim", reason="the extra for schedules isn't installed")

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def first(timing: Timing, after: float, count: int) -> list[float]:
    return list(itertools.islice(slots.slots(timing, after), count))


def local(found: list[float], zone: Any) -> list[str]:
    return [datetime.fromtimestamp(slot, zone).strftime("%d. %H:%M %Z") for slot in found]


def test_cron_is_read_in_its_time_zone() -> None:
    timing = Timing(cron="30 2 * * *", tz="Asia/Tokyo")
    assert first(timing, at("2026-01-10T00:00+00:00"), 2) == [
        at("2026-01-10T17:30+00:00"),
        at("2026-01-11T17:30+00:00"),
    ]


def test_a_time_that_the_clock_skips_is_the_first_after_it() -> None:
    timing = Timing(cron="30 2 * * *", tz="Europe/Berlin")
    found = first(timing, at("2026-03-27T12:00+00:00"), 4)
    assert local(found, BERLIN) == ["28. 02:30 CET", "29. 03:00 CEST", "30. 02:30 CEST", "31. 02:30 CEST"]


def test_a_time_that_the_clock_shows_twice_is_the_first() -> None:
    timing = Timing(cron="30 2 * * *", tz="Europe/Berlin")
    found = first(timing, at("2026-10-23T12:00+00:00"), 4)
    assert local(found, BERLIN) == ["24. 02:30 CEST", "25. 02:30 CEST", "26. 02:30 CET", "27. 02:30 CET"]


def test_what_begins_with_a_star_follows_the_time_that_passes() -> None:
    hourly = Timing(cron="0 * * * *", tz="Europe/Berlin")
    spring = first(hourly, at("2026-03-28T23:30+00:00"), 4)
    assert local(spring, BERLIN) == ["29. 01:00 CET", "29. 03:00 CEST", "29. 04:00 CEST", "29. 05:00 CEST"]
    autumn = first(hourly, at("2026-10-24T23:30+00:00"), 4)
    assert local(autumn, BERLIN) == ["25. 02:00 CEST", "25. 02:00 CET", "25. 03:00 CET", "25. 04:00 CET"]
    assert all(b - a == 3600 for a, b in itertools.pairwise(autumn))


def test_six_fields_begin_with_seconds() -> None:
    timing = Timing(cron="*/20 * * * * *")
    assert first(timing, 1000.0, 3) == [1020.0, 1040.0, 1060.0]


def test_an_expression_without_any_slot_left() -> None:
    assert first_after(Timing(cron="0 0 1 1 *"), at("9999-12-31T00:00+00:00")) is None


ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "UTC",
]
FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "15,45", "59", "*"]),
    st.sampled_from(["0", "1", "2", "3", "*", "1-3", "*/2", "23", "0,2"]),
    st.sampled_from(["*", "1", "29", "L"]),
    st.sampled_from(["*", "3", "3-11"]),
    st.sampled_from(["*", "SUN", "1-5"]),
)


@settings(max_examples=150)
@given(FIELDS, st.sampled_from(ZONES), st.integers(at_hours := 362_000, at_hours + 24 * 365 * 12))
def test_cron_slots_of_any_zone_grow_and_are_found_from_anywhere(
    fields: tuple[str, ...], zone: str, hour: int
) -> None:
    timing = Timing(cron=" ".join(fields), tz=zone)
    try:
        found = first(timing, hour * 3600.0, 6)
    except ConfigurationError:
        assume(False)
    assert all(b > a for a, b in itertools.pairwise([hour * 3600.0, *found]))
    for slot, following in itertools.pairwise(found):
        assert first_after(timing, slot) == following
        between = (slot + following) / 2
        assert first_after(timing, between) == following


@settings(max_examples=60)
@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(ZONES), st.integers(2000, 2030))
def test_a_fixed_time_comes_once_a_day(hour: int, minute: int, zone: str, year: int) -> None:
    """Whatever the clocks do: as many slots as days, each on or right after its day's time."""
    timing = Timing(cron=f"{minute} {hour} * * *", tz=zone)
    start = datetime(year, 3, 1, tzinfo=ZoneInfo(zone)) - timedelta(seconds=1)
    found = first(timing, start.timestamp(), 60)
    days = [datetime.fromtimestamp(slot, ZoneInfo(zone)).date() for slot in found]
    assert len(set(days)) == 60
    assert (days[-1] - days[0]).days == 59


@pytest.mark.parametrize(
    ("timing", "says"),
    [
        (Timing(cron="30 2 * *"), "has five fields"),
        (Timing(cron="61 * * * *"), "Bad minute"),
        (Timing(cron="0 0 31 2 *"), "Bad day-of-month"),
        (Timing(cron="0 0 * * *", tz="Mars/Olympus"), "no time zone this system knows"),
        (Timing(cron="0 0 * * *", tz="../etc/passwd"), "no time zone this system knows"),
        (Timing(cron="0 0 * * *", tz=""), "no time zone this system knows"),
        (Timing(every=0.01), "at least 0.1 seconds"),
    ],
)
def test_what_is_wrong_is_told(timing: Timing, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check(timing, 1_700_000_000.0)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'perdure\[schedules\]'"):
        check(Timing(cron="* * * * *"), 0.0)
    check(Timing(every=60.0), 0.0)
