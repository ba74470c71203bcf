"""The garbage collector is relaxed while an engine drives runs, and only then; a program's own setting stays."""

from __future__ import annotations

import asyncio
import gc

import pytest

import perdure
from perdure.runtime import collector
from perdure.runtime.collector import YOUNG_OBJECTS


@pytest.fixture(autouse=True)
def no_engine_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process leave engines behind that have crashed and never closed."""
    monkeypatch.setattr(collector, "_engines", 0)
    monkeypatch.setattr(collector, "_before", None)


async def threshold_inside() -> int:
    async with perdure.Engine("memory:"), perdure.Engine("memory:"):
        return gc.get_threshold()[0]


def test_the_default_is_relaxed_and_comes_back() -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, *before[1:])
    try:
        assert asyncio.run(threshold_inside()) == YOUNG_OBJECTS
        assert gc.get_threshold()[0] == 700
    finally:
        gc.set_threshold(*before)


def test_the_programs_own_setting_stays() -> None:
    before = gc.get_threshold()
    gc.set_threshold(1234, *before[1:])
    try:
        assert asyncio.run(threshold_inside()) == 1234
        assert gc.get_threshold()[0] == 1234
    finally:
        gc.set_threshold(*before)
