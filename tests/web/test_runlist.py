"""The list of runs without a page: addresses, what is shown, and what can be done with many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.api.runinfo import RunInfo
from perdure.core.status import FINAL, Status
from perdure.core.timeline import Wait
from perdure.errors import UsageError
from perdure.web.conditions import conditions
from perdure.web.views.runlist import (
    DEEDS,
    SIZE,
    STATUSES,
    WINDOWS,
    Wanted,
    arranged,
    lasted,
    left_out,
    waits_for,
)
from perdure.web.views.starting import arguments_of, signature_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXTS = st.text(max_size=30).map(str.strip)


def run(number: int, status: Status = Status.COMPLETED, **more: Any) -> RunInfo:
    at = NOON + timedelta(seconds=number)
    fields: dict[str, Any] = {
        "id": f"r-{number}",
        "workflow": "shop.order",
        "status": status,
        "queue": "default",
        "created_at": at,
        "started_at": at,
        "updated_at": at,
        "ended_at": None,
        "wake_at": None,
        "parent": None,
        "reason": None,
        "events": 3,
        "recoveries": 0,
    }
    return RunInfo(**{**fields, **more})


@given(
    st.builds(
        Wanted,
        statuses=st.sets(st.sampled_from([status.value for status in STATUSES])).map(
            lambda chosen: tuple(status.value for status in STATUSES if status in chosen)
        ),
        workflow=TEXTS,
        text=TEXTS,
        within=st.sampled_from(list(WINDOWS)),
        since=st.sampled_from(["", "2026-01-31T12:00", "2026-01-31T12:00:00+02:00"]),
        until=st.sampled_from(["", "2026-02-01"]),
        attributes=st.lists(st.sampled_from(["total>=100", "region=eu & us", "paid=true"]), unique=True).map(
            tuple
        ),
        cursor=st.sampled_from(["", "3f"]),
    )
)
def test_an_address_says_all_that_is_wanted(wanted: Wanted) -> None:
    assert Wanted.read(wanted.address.partition("?")[2]) == wanted


@given(st.text(max_size=200))
def test_any_address_is_read_as_something(query: str) -> None:
    wanted = Wanted.read(query)
    wanted.filters(NOON)
    assert Wanted.read(wanted.address.partition("?")[2]) == wanted


def test_what_an_address_has_wrong_is_left_out() -> None:
    found = Wanted.read(
        "?status=lost&status=failed&since=yesterday&within=99y&attribute=nothing&attribute=a%3D1"
    )
    assert found == Wanted(statuses=("failed",), attributes=("a=1",))


def test_a_window_ends_now_and_moments_are_utc() -> None:
    assert Wanted(within="1h").filters(NOON)["since"] == NOON - timedelta(hours=1)
    assert Wanted(since="2026-01-01T10:00").filters(NOON)["since"] == NOON - timedelta(hours=2)
    assert Wanted(until="2026-01-01T14:00+04:00").filters(NOON)["until"] == NOON - timedelta(hours=2)


def test_a_changed_filter_begins_at_the_first_page() -> None:
    assert Wanted(cursor="3f").toggled("failed") == Wanted(statuses=("failed",))
    assert Wanted(statuses=("failed",)).toggled("failed") == Wanted()


def test_conditions_are_read_at_their_first_sign() -> None:
    assert conditions(["a>=1", "a<5", "b=x>y", "c!=true"]) == {
        "a": [(">=", 1), ("<", 5)],
        "b": [("=", "x>y")],
        "c": [("!=", True)],
    }
    for wrong in ("a", "=1", "a=[1]", ""):
        with pytest.raises(UsageError):
            conditions([wrong])


def test_newer_runs_wait_above_what_is_read() -> None:
    shown = [run(number) for number in range(9, 4, -1)]
    found = [run(number, Status.FAILED) for number in range(12, 0, -1)]
    rows, news = arranged(shown, found)
    assert news == 3
    assert [row.id for row in rows] == [f"r-{number}" for number in range(9, 0, -1)]
    assert all(row.status is Status.FAILED for row in rows)  # brought up to date where they stand
    assert arranged([], found) == (found[:SIZE], 0)
    assert arranged(shown, found[:3]) == (shown, 3)  # so many new ones that none of these was seen
    assert arranged(shown, []) == ([], 0)


def test_what_needs_a_person_is_told_first() -> None:
    at = NOON.timestamp()
    waits = (
        Wait("timer", "sleep:1", at, at + 3600),
        Wait("question", "ask:1", at - 9, None, "Pay the bill?"),
    )
    told = waits_for(run(1, Status.WAITING, waiting_for=waits), NOON)
    assert told == "answer: Pay the bill? and 1 more"
    assert waits_for(run(1, Status.WAITING, waiting_for=waits[:1]), NOON) == "timer in 1 h"
    assert waits_for(run(1, Status.BLOCKED, reason="No worker\nknows it"), NOON) == "No worker knows it"
    assert waits_for(run(1, Status.COMPLETED, reason="x"), NOON) == ""
    assert waits_for(run(1, Status.WAITING), NOON) == ""
    for kind in (
        "step",
        "retry",
        "limit",
        "budget",
        "child",
        "message",
        "callback",
        "event",
        "update",
        "later",
    ):
        assert waits_for(run(1, Status.WAITING, waiting_for=(Wait(kind, "id", at),)), NOON)


def test_a_run_lasts_to_its_end() -> None:
    assert lasted(run(0, ended_at=NOON + timedelta(seconds=5)), NOON) == 5
    assert lasted(run(0), NOON + timedelta(seconds=7)) == 7
    assert lasted(run(9), NOON) == 0  # another machine's clock is ahead


def test_each_deed_is_for_those_whom_it_can_help() -> None:
    of = {deed.path: deed.of for deed in DEEDS}
    assert of["retry"] == {Status.FAILED}
    assert of["resume"] == {Status.PAUSED}
    assert of["cancel"] == of["terminate"] == frozenset(Status) - FINAL
    assert Status.PAUSED not in of["pause"]
    assert left_out(DEEDS[0], [Status.WAITING]) == ""


@pytest.mark.parametrize("wrong", ["tardigrades", "[1", "{'a': 1}", "\ud800", "[" * 100_000])
def test_arguments_that_are_no_json_say_so(wrong: str) -> None:
    with pytest.raises(ValueError, match="isn't JSON"):
        arguments_of(wrong)


def test_a_signature_reads_as_its_code() -> None:
    def strange(a: list[int], *rest: Status, b: str | None = None, **more: Any) -> Any: ...

    assert "b: str | None = None" in signature_of(strange)
