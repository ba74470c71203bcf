"""What becomes of a schedule's slots: each policy, and what holds of all of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.schedules import (
    BUFFER_MAX,
    Overlap,
    Schedule,
    Timing,
    decide,
    due_at,
    fires_at,
    settle,
    slot_run_id,
    waits_for_an_end,
)

SKIP, ONE, ALL, ALLOW, CANCEL = Overlap


def outcome(overlap: Overlap, due: list[float], **given: Any) -> tuple[Any, ...]:
    decision = decide(overlap, due, **given)
    return (
        list(decision.start),
        list(decision.buffered),
        list(decision.backlog),
        decision.skipped,
        decision.cancel,
    )


@pytest.mark.parametrize(
    ("overlap", "due", "given", "expected"),
    [
        (SKIP, [1.0], {"busy": False}, ([1], [], [], 0, False)),
        (SKIP, [1.0], {"busy": True}, ([], [], [], 1, False)),
        (SKIP, [1.0, 2.0, 3.0], {"busy": False}, ([1], [], [], 2, False)),
        (ONE, [1.0, 2.0, 3.0], {"busy": False}, ([1], [2], [], 1, False)),
        (ONE, [2.0], {"busy": True, "buffered": [1.0]}, ([], [1], [], 1, False)),
        (ONE, [2.0], {"busy": False, "buffered": [1.0]}, ([1], [2], [], 0, False)),
        (ALL, [1.0, 2.0, 3.0], {"busy": False}, ([1], [2, 3], [], 0, False)),
        (ALL, [3.0], {"busy": True, "buffered": [1.0, 2.0]}, ([], [1, 2, 3], [], 0, False)),
        (ALL, [], {"busy": False, "buffered": [1.0, 2.0]}, ([1], [2], [], 0, False)),
        (ALLOW, [3.0, 4.0], {"busy": True}, ([3, 4], [], [], 0, False)),
        (ALLOW, [3.0], {"busy": True, "buffered": [2.0], "backlog": [1.0]}, ([2, 3, 1], [], [], 0, False)),
        (CANCEL, [1.0], {"busy": False}, ([1], [], [], 0, False)),
        (CANCEL, [2.0], {"busy": True}, ([], [2], [], 0, True)),
        (CANCEL, [1.0, 2.0, 3.0], {"busy": True}, ([], [3], [], 2, True)),
        (CANCEL, [1.0, 2.0, 3.0], {"busy": False}, ([3], [], [], 2, False)),
        (CANCEL, [3.0], {"busy": True, "buffered": [2.0]}, ([], [3], [], 1, True)),
        (CANCEL, [3.0], {"busy": False, "buffered": [2.0]}, ([3], [], [], 1, False)),
        (SKIP, [], {"busy": False, "backlog": [1.0, 2.0]}, ([1], [], [2], 0, False)),
        (SKIP, [3.0], {"busy": False, "backlog": [1.0, 2.0]}, ([3], [], [1, 2], 0, False)),
        (SKIP, [], {"busy": True, "backlog": [1.0]}, ([], [], [1], 0, False)),
        (ONE, [], {"busy": False, "buffered": [2.0], "backlog": [1.0]}, ([2], [], [1], 0, False)),
    ],
)
def test_a_policy_decides(
    overlap: Overlap, due: list[float], given: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    assert outcome(overlap, due, **given) == expected


def test_a_full_buffer_skips() -> None:
    waiting = [float(number) for number in range(BUFFER_MAX)]
    decision = decide(ALL, [5000.0, 5001.0], busy=True, buffered=waiting)
    assert (len(decision.buffered), decision.skipped) == (BUFFER_MAX, 2)


SLOTS = st.lists(st.integers(1, 50), max_size=6, unique=True).map(
    lambda found: [float(s) for s in sorted(found)]
)


@given(st.sampled_from(Overlap), SLOTS, SLOTS, SLOTS, st.booleans())
def test_every_slot_has_exactly_one_fate(
    overlap: Overlap, due: list[float], buffered: list[float], backlog: list[float], busy: bool
) -> None:
    due = [slot + 100 for slot in due]
    backlog = [slot + 200 for slot in backlog]
    decision = decide(overlap, due, busy=busy, buffered=buffered, backlog=backlog)
    placed = [*decision.start, *decision.buffered, *decision.backlog]
    assert len(placed) == len(set(placed))
    assert set(placed) <= {*due, *buffered, *backlog}
    assert len(placed) + decision.skipped == len(due) + len(buffered) + len(backlog)
    if overlap is not ALLOW:
        assert len(decision.start) + busy <= 1  # never two beside each other
    if decision.cancel:
        assert busy
        assert len(decision.buffered) == 1


def schedule(overlap: Overlap = SKIP, **fields: Any) -> Schedule:
    given: dict[str, Any] = {
        "name": "s",
        "timing": Timing(every=10.0, start=1000.0),
        "workflow": "w",
        "input": b"[[],{}]",
        "queue": "default",
        "overlap": overlap,
        "catch_up": 60.0,
        "created_at": 1000.0,
        "next": 1010.0,
    }
    return Schedule(**{**given, **fields})


def test_settling_starts_runs_named_by_their_slots() -> None:
    settled = settle(schedule(), due=[1010.0], missed=3, next_slot=1020.0, live=(), now=1011.0)
    after = settled.schedule
    assert settled.start == ((slot_run_id("s", 1010.0), 1010.0),)
    assert after.running == ("s@1970-01-01T00:16:50Z",)
    assert (after.fired, after.missed, after.skipped, after.next) == (1, 3, 0, 1020.0)
    assert [(item.run, item.at, item.slot) for item in after.recent] == [
        ("s@1970-01-01T00:16:50Z", 1011.0, 1010.0)
    ]


def test_runs_that_have_ended_are_forgotten() -> None:
    before = schedule(running=("a", "b"))
    assert settle(before, due=[], missed=0, next_slot=1010.0, live={"b"}, now=1005.0).schedule.running == (
        "b",
    )
    skipped = settle(before, due=[1010.0], missed=0, next_slot=1020.0, live={"b"}, now=1011.0)
    assert (skipped.start, skipped.schedule.skipped) == ((), 1)


def test_cancel_other_names_whom_to_cancel() -> None:
    before = schedule(CANCEL, running=("a", "b"))
    settled = settle(before, due=[1010.0], missed=0, next_slot=1020.0, live={"a", "b"}, now=1011.0)
    assert settled.cancel == ("a", "b")
    assert settled.schedule.buffered == (1010.0,)
    assert waits_for_an_end(settled.schedule)


def test_what_is_looked_at_when() -> None:
    assert due_at(schedule()) == 1010.0
    assert due_at(schedule(paused=True)) is None
    assert due_at(schedule(next=None)) is None
    assert due_at(schedule(buffered=(990.0,))) == 0.0
    held = schedule(ONE, buffered=(990.0,), running=("a",))
    assert (due_at(held), waits_for_an_end(held)) == (1010.0, True)
    assert not waits_for_an_end(schedule(ONE, buffered=(990.0,), running=("a",), paused=True))
    assert due_at(schedule(ALLOW, backlog=(990.0,), running=("a",))) == 0.0


@given(st.floats(1e9, 2e9), st.floats(0.1, 3600), st.text(min_size=1, max_size=5))
def test_jitter_is_the_same_for_everybody_and_within_its_bounds(
    slot: float, jitter: float, name: str
) -> None:
    one = schedule(name=name, timing=Timing(every=10.0, jitter=jitter))
    again = msgspec.json.decode(msgspec.json.encode(one), type=Schedule)
    assert fires_at(one, slot) == fires_at(again, slot)
    assert slot <= fires_at(one, slot) <= slot + jitter


def test_jitter_spreads() -> None:
    one = schedule(timing=Timing(every=10.0, jitter=100.0))
    late = [fires_at(one, 1000.0 + 10 * number) - (1000.0 + 10 * number) for number in range(200)]
    assert min(late) < 15
    assert max(late) > 85
    assert 35 < sum(late) / len(late) < 65
