"""A fake provider, and a database beside it."""

from __future__ import annotations

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
