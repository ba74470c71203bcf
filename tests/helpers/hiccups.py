"""Pretends a machine that has too much to do: event loops stand still at random, and threads that commit are late.

Tests that pass like this don't depend on speed. PERDURE_TEST_HICCUPS=7 switches it on, with 7 as the seed.
"""

from __future__ import annotations

import asyncio.base_events
import os
import random
import time
from typing import Any

import pytest

from perdure.storage.sqlite.writer import Writer

#: Mean time between two hiccups of a loop, and the longest of them, in seconds.
EVERY = 0.15
LONGEST = 0.5


@pytest.fixture(autouse=True)
def hiccups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disturb one test."""
    dice = random.Random(f"{os.environ['PERDURE_TEST_HICCUPS']} {request.node.nodeid}")
    due = time.monotonic() + dice.expovariate(1 / EVERY)
    turn: Any = asyncio.base_events.BaseEventLoop._run_once  # type: ignore[attr-defined]
    take = Writer._take

    def pause() -> None:
        time.sleep(dice.uniform(0, LONGEST))

    def late_turn(self: Any) -> None:
        nonlocal due
        if time.monotonic() > due:
            pause()
            due = time.monotonic() + dice.expovariate(1 / EVERY)
        turn(self)

    def late_take(self: Writer) -> Any:
        taken = take(self)
        if taken[0] and dice.random() < 0.02:
            pause()
        return taken

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "_run_once", late_turn)
    monkeypatch.setattr(Writer, "_take", late_take)
