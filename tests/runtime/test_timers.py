"""Alarms never ring early, ring in order, are never lost, and cancelled ones leave nothing behind.

The loop here is a fake with a clock of its own, so that the wall clock can be set forward and back, and the
loop can wake a little early, as real ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from perdure.runtime.timers import HEAP_SLACK, NAP_MAX, Timers

EARLY = 0.0004  # how far before the asked moment the fake loop wakes


class FakeTimer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeLoop:
    """Monotonic time, and a wall clock that is off by `offset`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.offset = 1_000_000.0
        self.pending: list[FakeTimer] = []

    def wall(self) -> float:
        return self.now + self.offset

    def call_later(self, delay: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.now + delay, call)
        self.pending.append(timer)
        return timer

    def run_until(self, moment: float) -> None:
        while True:
            self.pending = [timer for timer in self.pending if timer.call is not None]
            due = [timer for timer in self.pending if timer.when - EARLY <= moment]
            if not due:
                break
            timer = min(due, key=lambda timer: timer.when)
            self.pending.remove(timer)
            self.now = max(self.now, timer.when - EARLY)
            assert timer.call is not None
            timer.call()
        self.now = max(self.now, moment)


def make() -> tuple[FakeLoop, Timers]:
    loop = FakeLoop()
    return loop, Timers(cast(asyncio.AbstractEventLoop, loop), loop.wall)


delays = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=30)


@given(delays)
def test_alarms_ring_once_in_order_and_never_early(delays: list[float]) -> None:
    loop, timers = make()
    rung: list[int] = []
    dues = [loop.wall() + delay for delay in delays]

    def ring(number: int) -> None:
        assert loop.wall() >= dues[number]
        rung.append(number)

    for number, due in enumerate(dues):
        timers.at(due, ring, number)
    loop.run_until(200)
    assert rung == sorted(range(len(dues)), key=lambda number: (dues[number], number))


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(-30, 30)), min_size=1, max_size=8), delays)
def test_a_wall_clock_that_is_set_makes_nothing_early_and_loses_nothing(
    changes: list[tuple[float, float]], delays: list[float]
) -> None:
    loop, timers = make()
    rung: list[int] = []
    dues = [loop.wall() + delay for delay in delays]

    def ring(number: int) -> None:
        assert loop.wall() >= dues[number], "early"
        rung.append(number)

    for number, due in enumerate(dues):
        timers.at(due, ring, number)
    for moment, by in sorted(changes):
        loop.run_until(moment)
        loop.offset += by
    loop.run_until(1000)
    assert sorted(rung) == list(range(len(dues)))


def test_a_clock_set_forward_is_noticed_within_a_nap() -> None:
    loop, timers = make()
    rung: list[float] = []
    timers.at(loop.wall() + 3600, lambda: rung.append(loop.now))
    loop.offset += 3600
    loop.run_until(2 * NAP_MAX)
    assert rung
    assert rung[0] <= NAP_MAX


def test_an_alarm_may_set_and_cancel_others_while_it_rings() -> None:
    loop, timers = make()
    rung: list[str] = []
    later = timers.at(loop.wall() + 2, rung.append, "cancelled")

    def first() -> None:
        rung.append("first")
        later.cancel()
        timers.at(loop.wall(), rung.append, "at once")

    timers.at(loop.wall() + 1, first)
    loop.run_until(10)
    assert rung == ["first", "at once"]


def test_cancelled_alarms_leave_the_heap() -> None:
    loop, timers = make()
    kept: list[Any] = [timers.at(loop.wall() + 1e6, print) for _ in range(10)]
    for _ in range(20 * HEAP_SLACK):
        timers.at(loop.wall() + 1e6, print).cancel()
    assert len(timers._heap) <= len(kept) + 2 * HEAP_SLACK


def test_a_failing_alarm_stops_no_other() -> None:
    loop, timers = make()
    rung: list[int] = []

    def fail() -> None:
        raise RuntimeError("expected")

    timers.at(loop.wall() + 1, fail)
    timers.at(loop.wall() + 1, rung.append, 2)
    timers.at(loop.wall() + 2, rung.append, 3)
    loop.run_until(10)
    assert rung == [2, 3]


def test_who_has_set_the_clock_needs_no_nap() -> None:
    loop, timers = make()
    rung: list[str] = []
    assert timers.next_due() is None
    timers.at(loop.wall() + 5, rung.append, "cancelled").cancel()
    later = loop.wall() + 86_400
    timers.at(later, rung.append, "later")
    assert timers.next_due() == later
    timers.look()
    assert rung == []
    loop.offset += 86_400
    timers.look()
    assert rung == ["later"]
    assert timers.next_due() is None
    loop.run_until(loop.now + 2 * NAP_MAX)
    assert rung == ["later"]
