"""A fake provider, and a database beside it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_kit import World, with_tools

from perdure.testing.fake_llm import FakeLLM


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeLLM(with_tools) as llm, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        yield World(tmp_path / "runs.db", llm)


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Connections that clients have kept open go here, and aren't found by the collector amid somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
