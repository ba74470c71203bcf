"""Hints are told at once after a pause, and the more rarely the more workers hear them. The clock is the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import psycopg
import pytest

from perdure.storage.postgres.hints import COALESCE, GAP_MAX, GAP_MIN, HEARD_MAX, Hints


class Loop:
    """An event loop that only keeps what is to be called later, and when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.later: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        self.later.append((self.now + delay, call))
        return object()

    def create_task(self, work: Any) -> asyncio.Future[None]:
        work.close()
        done = cast(Any, asyncio.Future(loop=asyncio.new_event_loop()))
        done.get_loop().close()
        done.set_result(None)
        return cast(Any, done)


def told(hints: Hints, loop: Loop, seconds: float, every: float) -> list[float]:
    """When hints are sent while something changes again and again."""
    moments: list[float] = []
    end, change_at = loop.now + seconds, loop.now
    while loop.now < end:
        due = min((moment for moment, _ in loop.later), default=end)
        loop.now = min(due, change_at)
        if due <= change_at:
            (_, call), *loop.later = sorted(loop.later, key=lambda item: item[0])
            call()
            moments.append(loop.now)
        else:
            hints.changed()
            change_at += every
    return moments


def made(workers: int) -> tuple[Hints, Loop]:
    loop = Loop()
    hints = Hints(cast(Any, None), "", cast(Any, loop), None)
    hints.spread(workers)
    return hints, loop


@pytest.mark.parametrize("workers", [1, 10, 100, 1_000])
def test_all_together_they_hear_no_more_than_so_many(workers: int) -> None:
    hints, loop = made(workers)
    seconds = max(1.0, 50 * hints.gap) if hints.gap < GAP_MAX else 0.0
    moments = told(hints, loop, seconds, every=hints.gap / 10)
    heard = len(moments) / seconds * workers * workers
    assert heard <= max(HEARD_MAX, workers * workers / GAP_MIN) * 1.1


@pytest.mark.parametrize("workers", [1, 100])
def test_the_first_after_a_pause_is_told_at_once(workers: int) -> None:
    hints, loop = made(workers)
    for _ in range(3):
        hints.changed()
        ((due, call),) = loop.later
        assert due - loop.now == pytest.approx(COALESCE)
        loop.later.clear()
        loop.now = due
        call()
        loop.now += GAP_MAX


def test_what_changes_meanwhile_is_told_later() -> None:
    hints, loop = made(100)
    assert len(told(hints, loop, hints.gap * 1.5, every=0.01)) == 2


class Lossy:
    """A pool whose first connections turn out to be cut."""

    def __init__(self, cut: int) -> None:
        self.cut = cut
        self.sent: list[str] = []

    @contextlib.asynccontextmanager
    async def connection(self, timeout: float) -> AsyncIterator[Lossy]:
        yield self

    async def execute(self, statement: str, values: object) -> None:
        if self.cut:
            self.cut -= 1
            raise psycopg.OperationalError("the connection is lost")
        self.sent.append(statement)


@pytest.mark.parametrize(("cut", "sent"), [(0, 1), (1, 1), (2, 1), (50, 0)])
def test_a_hint_gets_through_though_its_connection_was_cut(cut: int, sent: int) -> None:
    async def main() -> None:
        pool = Lossy(cut)
        hints = Hints(cast(Any, pool), "", asyncio.get_running_loop(), None)
        hints.changed()
        await hints.close()
        assert len(pool.sent) == sent

    asyncio.run(main())
